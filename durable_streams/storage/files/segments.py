"""The streams' stream files: payload in blocks, a checksum behind each, checked on every read.

Positions here are local positions (0 is the stream's first own byte). A place is ``(written, checksum)``: how much is
valid, and the checksum of the last block as far as it has come. Nothing below a place's ``written`` ever changes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from zlib_ng.zlib_ng import crc32

from durable_streams.storage.files.layout import Layout
from durable_streams.storage.on_disk.disk import Disk, Part, sync_file

BLOCK_BYTES: Final = 32768
_CHECKSUM = struct.Struct("<I")
_STORED_BYTES: Final = BLOCK_BYTES + _CHECKSUM.size


class BytesDamaged(Exception):
    """Payload that fails its checksum, or is missing; the reader of that stream is told, nobody else."""


def file_position(position: int) -> int:
    """Where the byte of local position ``position`` lies in the file."""
    return position + _CHECKSUM.size * (position // BLOCK_BYTES)


def with_checksums(data: Part, written: int, checksum: int) -> tuple[list[Part], int]:
    """What to write at ``file_position(written)`` to add ``data``, and the checksum of the new last block."""
    parts: list[Part] = []
    view = memoryview(data)
    while len(view):
        piece = view[: BLOCK_BYTES - written % BLOCK_BYTES]
        checksum = crc32(piece, checksum)
        parts.append(piece)
        written += len(piece)
        view = view[len(piece) :]
        if written % BLOCK_BYTES == 0:
            parts.append(_CHECKSUM.pack(checksum))
            checksum = 0
    return parts, checksum


class Extent:
    """The whole blocks that hold local positions ``start`` to ``stop``, of a file that is valid up to ``written``."""

    __slots__ = ("_checksum", "_first", "_start", "_stop", "_written", "at", "length")

    def __init__(self, start: int, stop: int, written: int, checksum: int) -> None:
        self._start, self._stop = start, stop
        self._written, self._checksum = written, checksum
        self._first = start // BLOCK_BYTES
        end = min(written, (stop + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES)
        self.at = self._first * _STORED_BYTES
        self.length = file_position(end) - self.at

    def payload(self, stored: Part) -> bytes:
        """The bytes asked for, out of what the file holds from ``at`` on; raises BytesDamaged."""
        if len(stored) < self.length:
            raise BytesDamaged(f"its file ends at byte {self.at + len(stored)}")
        return b"".join(self._checked_pieces(memoryview(stored)))

    def _checked_pieces(self, stored: memoryview) -> Sequence[memoryview]:
        pieces = []
        number = self._first
        for at in range(0, self.length, _STORED_BYTES):
            block_at = number * BLOCK_BYTES
            block = stored[at : at + min(BLOCK_BYTES, self._written - block_at)]
            if crc32(block) != self._expected(stored, at, len(block)):
                raise BytesDamaged(f"checksum of the block at byte {self.at + at} of its file")
            pieces.append(block[max(0, self._start - block_at) : self._stop - block_at])
            number += 1
        return pieces

    def _expected(self, stored: memoryview, at: int, length: int) -> int:
        if length < BLOCK_BYTES:
            return self._checksum
        (checksum,) = _CHECKSUM.unpack_from(stored, at + BLOCK_BYTES)
        return int(checksum)


class Packed:
    """The same for a stream whose ``length`` local bytes lie in a checkpoint, in one piece from ``at`` on."""

    __slots__ = ("_checksum", "_start", "_stop", "at", "length")

    def __init__(self, start: int, stop: int, at: int, length: int, checksum: int) -> None:
        self._start, self._stop = start, stop
        self._checksum = checksum
        self.at = at
        self.length = length

    def payload(self, stored: Part) -> bytes:
        """The bytes asked for, out of what the file holds from ``at`` on; raises BytesDamaged."""
        if len(stored) < self.length or crc32(stored) != self._checksum:
            raise BytesDamaged(f"checksum of the payload at byte {self.at} of its checkpoint")
        return bytes(stored[self._start : self._stop])


class StreamFiles:
    """Writes the streams' stream files; may be used by several threads, for different streams."""

    def __init__(self, disk: Disk, layout: Layout) -> None:
        self._disk = disk
        self._layout = layout

    def add(self, id: int, data: Part, written: int, checksum: int, start: bytes = b"") -> int:
        """Put ``data`` behind the first ``written`` bytes and return the new checksum; nothing is synced.

        ``start`` is given for a new file: those first bytes themselves, less than a block.
        """
        parts, checksum = with_checksums(data, written, checksum)
        at = file_position(written) - len(start)
        fd = self._open(id)
        try:
            self._disk.write(fd, [start, *parts] if start else parts, at)
        finally:
            self._disk.close(fd)
        return checksum

    def add_all(self, additions: Sequence[tuple[int, Part, int, int]]) -> list[int]:
        """``add`` for each of these arguments."""
        return [self.add(*addition) for addition in additions]

    def sync(self, ids: Iterable[int]) -> None:
        for id in ids:
            sync_file(self._disk, self._layout.stream(id))

    def sync_names(self, ids: Iterable[int]) -> None:
        folders = {self._layout.stream_folder(id) for id in ids}
        for folder in sorted(folders):
            self._disk.sync_dir(folder)
        if folders:
            self._disk.sync_dir(self._layout.streams)

    def _open(self, id: int) -> int:
        path = self._layout.stream(id)
        try:
            return self._disk.open(path, write=True)
        except FileNotFoundError:
            self._disk.make_dir(self._layout.stream_folder(id))
            return self._disk.open(path, write=True)
