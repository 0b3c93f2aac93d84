"""Checkpoint files: written block by block, read as rows. Which streams go in, and when, is not decided here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from durable_streams.storage.files.layout import Layout, numbered
from durable_streams.storage.files.records import (
    BLOCK_HEADER_BYTES,
    FOOTER_BYTES,
    BlockHeader,
    Footer,
    Row,
    encode_block_header,
    encode_rows,
)
from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import Disk
from durable_streams.storage.on_disk.new_file import NewFile

BLOCK_STREAMS_MAX = 256


class CheckpointWriter:
    """One file, under another name until ``finish``."""

    def __init__(self, disk: Disk, layout: Layout, number: int) -> None:
        self.number = number
        self._disk = disk
        self._layout = layout
        self._blocks = 0
        self._file = NewFile(disk, layout.checkpoint(number) + ".tmp")

    @property
    def size(self) -> int:
        return self._file.size

    @property
    def payload_at(self) -> int:
        """Where the payload of the next block will begin."""
        return self.size + BLOCK_HEADER_BYTES

    def add(self, payload: Sequence[bytes], rows: Sequence[Row]) -> None:
        encoded = encode_rows(rows)
        header = encode_block_header(sum(map(len, payload)), encoded)
        self._file.add([header, *payload, encoded])
        self._blocks += 1

    def finish(self, base: int, journal: int, seq: int, next_id: int) -> None:
        """Make the file durable under its name."""
        footer = Footer(self.number, base, journal, seq, next_id, self._blocks)
        self._file.add([footer.encode()])
        self._file.sync()
        self._disk.rename(self._file.path, self._layout.checkpoint(self.number))
        self._disk.sync_dir(self._layout.checkpoints)

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        """Remove what was written: on a full disk it would stand in the way of the next try."""
        with suppress(OSError):
            self._disk.unlink(self._file.path)


class Block(NamedTuple):
    """A block as it was read; the payload from ``payload_at`` on is not looked at."""

    rows: list[Row]
    payload_at: int


class CheckpointFile(NamedTuple):
    """A finished checkpoint."""

    path: str
    size: int
    footer: Footer


class Checkpoints(NamedTuple):
    """Those in force, oldest first, and the names of files that are not."""

    files: list[CheckpointFile]
    unused: list[str]

    @property
    def footer(self) -> Footer:
        """What the newest says; that of an empty directory when there is none."""
        return self.files[-1].footer if self.files else Footer(0, 0, 1, 0, 1, 0)


def find_checkpoints(disk: Disk, layout: Layout) -> Checkpoints:
    """Raises DirectoryDamaged when one that should be in force is missing or not whole."""
    names = disk.names(layout.checkpoints)
    numbers = numbered(names, ".checkpoint")
    if not numbers:
        return Checkpoints([], [f"{layout.checkpoints}/{name}" for name in names])
    newest = _open_file(disk, layout, numbers[-1])
    files = [_open_file(disk, layout, number) for number in range(newest.footer.base, numbers[-1])]
    files.append(newest)
    paths = {file.path for file in files}
    candidates = [f"{layout.checkpoints}/{name}" for name in names]
    return Checkpoints(files, [path for path in candidates if path not in paths])


def _open_file(disk: Disk, layout: Layout, number: int) -> CheckpointFile:
    path = layout.checkpoint(number)
    try:
        fd = disk.open(path)
    except FileNotFoundError:
        raise DirectoryDamaged(path, 0, "this checkpoint is missing") from None
    try:
        size = disk.size(fd)
        at = max(0, size - FOOTER_BYTES)
        footer = Footer.decode(disk.read(fd, FOOTER_BYTES, at))
    finally:
        disk.close(fd)
    if footer is None or footer.number != number:
        raise DirectoryDamaged(path, at, "the footer of the checkpoint is not whole")
    return CheckpointFile(path, size, footer)


def read_blocks(disk: Disk, file: CheckpointFile) -> Iterator[Block]:
    """All blocks of a checkpoint; raises DirectoryDamaged at the first that is not whole."""
    fd = disk.open(file.path)
    try:
        at = 0
        for _ in range(file.footer.blocks):
            header = BlockHeader.decode(disk.read(fd, BLOCK_HEADER_BYTES, at))
            if header is None:
                raise DirectoryDamaged(file.path, at, "here a block should begin")
            payload_at = at + BLOCK_HEADER_BYTES
            rows_at = payload_at + header.payload_bytes
            fits = rows_at + header.rows_bytes <= file.size
            rows = header.rows(disk.read(fd, header.rows_bytes, rows_at)) if fits else None
            if rows is None:
                raise DirectoryDamaged(file.path, at, "the block fails its checksum")
            yield Block(rows, payload_at)
            at = rows_at + header.rows_bytes
    finally:
        disk.close(fd)
    if at != file.size - FOOTER_BYTES:
        raise DirectoryDamaged(file.path, at, "here the footer should begin")
