"""The byte layouts of journal and checkpoints, to and from values.

docs/storage-files.md describes every field; the struct lines below follow its tables row for row. What the values
mean, and when they are written, is not decided here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from durable_streams.backends.files.disk import Part

_CHECKSUM = struct.Struct("<I")

JOURNAL_MAGIC: Final = b"DSJRNL01"
_JOURNAL_HEADER = struct.Struct("<8sQ4sI")
JOURNAL_HEADER_BYTES: Final = _JOURNAL_HEADER.size

_BATCH = struct.Struct("<4sIIQQQ")
_BATCH_CHECKED = struct.Struct("<IQQQ")
BATCH_HEADER_BYTES: Final = _BATCH.size

BLOCK_MAGIC: Final = b"DSCB"
_BLOCK = struct.Struct("<4sIII")
_BLOCK_CHECKED = struct.Struct("<II")
BLOCK_HEADER_BYTES: Final = _BLOCK.size

CHECKPOINT_MAGIC: Final = b"DSCKPT01"
_FOOTER = struct.Struct("<8sQQQQQII")
FOOTER_BYTES: Final = _FOOTER.size

encode_values = msgspec.msgpack.Encoder().encode
decode_values = msgspec.msgpack.Decoder(list).decode
DecodeError = msgspec.DecodeError


class JournalHeader(NamedTuple):
    number: int
    marker: bytes

    def encode(self) -> bytes:
        packed = _JOURNAL_HEADER.pack(JOURNAL_MAGIC, *self, 0)
        return packed[:-4] + _CHECKSUM.pack(crc32(packed[:-4]))

    @classmethod
    def decode(cls, data: bytes) -> JournalHeader | None:
        """None when ``data`` is no journal header, or not a whole one."""
        if len(data) != JOURNAL_HEADER_BYTES:
            return None
        magic, number, marker, checksum = _JOURNAL_HEADER.unpack(data)
        if magic != JOURNAL_MAGIC or checksum != crc32(data[:-4]):
            return None
        return cls(number, marker)


class BatchHeader(NamedTuple):
    marker: bytes
    checksum: int
    changes_bytes: int
    payload_bytes: int
    seq: int
    synced: int

    @classmethod
    def decode(cls, data: Part, at: int) -> BatchHeader:
        return cls(*_BATCH.unpack_from(data, at))

    @property
    def length(self) -> int:
        """Of the whole batch."""
        return BATCH_HEADER_BYTES + self.changes_bytes + self.payload_bytes


def encode_batch(
    marker: bytes, seq: int, synced: int, changes: bytes, payload: Sequence[bytes]
) -> list[Part]:
    """One batch, as parts to be written one after the other."""
    length = sum(map(len, payload))
    checksum = crc32(changes, crc32(_BATCH_CHECKED.pack(len(changes), length, seq, synced)))
    for part in payload:
        checksum = crc32(part, checksum)
    return [_BATCH.pack(marker, checksum, len(changes), length, seq, synced), changes, *payload]


def batch_is_whole(header: BatchHeader, batch: Part) -> bool:
    """Whether ``batch``, header included, is what its checksum says."""
    return len(batch) == header.length and crc32(memoryview(batch)[8:]) == header.checksum


class Row(NamedTuple):
    """A stream in a checkpoint; ``state`` is None when it has gone."""

    id: int
    state: Sequence[Any] | None = None
    home: int = -1
    checksum: int = 0


def encode_rows(rows: Sequence[Row]) -> bytes:
    return encode_values([(row.id,) if row.state is None else row for row in rows])


def encode_block_header(payload_bytes: int, rows: bytes) -> bytes:
    lengths = _BLOCK_CHECKED.pack(payload_bytes, len(rows))
    return _BLOCK.pack(BLOCK_MAGIC, crc32(rows, crc32(lengths)), payload_bytes, len(rows))


class BlockHeader(NamedTuple):
    checksum: int
    payload_bytes: int
    rows_bytes: int

    @classmethod
    def decode(cls, data: bytes) -> BlockHeader | None:
        if len(data) != BLOCK_HEADER_BYTES:
            return None
        magic, *fields = _BLOCK.unpack(data)
        return cls(*fields) if magic == BLOCK_MAGIC else None

    def rows(self, data: bytes) -> list[Row] | None:
        """The rows in ``data``, or None when it is not what the checksum says."""
        if crc32(data, crc32(_BLOCK_CHECKED.pack(self.payload_bytes, self.rows_bytes))) != self.checksum:
            return None
        return [Row(*values) for values in decode_values(data)]


class Footer(NamedTuple):
    """``base``: the oldest checkpoint in force beside this one, or its own number.

    ``journal``: the first that the checkpoint does not cover; ``seq``: the last batch that it does.
    """

    number: int
    base: int
    journal: int
    seq: int
    next_id: int
    blocks: int

    def encode(self) -> bytes:
        packed = _FOOTER.pack(CHECKPOINT_MAGIC, *self, 0)
        return packed[:-4] + _CHECKSUM.pack(crc32(packed[:-4]))

    @classmethod
    def decode(cls, data: bytes) -> Footer | None:
        if len(data) != FOOTER_BYTES:
            return None
        magic, *fields, checksum = _FOOTER.unpack(data)
        if magic != CHECKPOINT_MAGIC or checksum != crc32(data[:-4]):
            return None
        return cls(*fields)
