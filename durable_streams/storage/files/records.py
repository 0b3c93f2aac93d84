"""The byte layouts of journal and checkpoints, to and from values.

docs/storage-files.md describes every field; the struct lines below follow its tables row for row, and the changes at
the end of the file are its arrays. When any of it is written, and what follows from it, is not decided here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from zlib_ng.zlib_ng import crc32

from durable_streams.persistent_map import with_entry, without_entry
from durable_streams.protocol.state import NO_FORKS, NO_PRODUCERS, StreamState, evolve
from durable_streams.storage.on_disk.disk import Part
from durable_streams.storage.rows import producer_values, read_producer, to_reference, to_row

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
    location: int = -1
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


BEGINS: Final = 0
GOES: Final = 1
MOVES: Final = 2

(
    _CLOSED,
    _CLOSED_BY,
    _STREAM_SEQ,
    _PRODUCERS,
    _PRODUCERS_GONE,
    _FORKS,
    _FORKS_GONE,
    _DELETED,
    _REVISION,
) = range(9)
"""The fields of a MOVES change. Each is left out when it is as before; the revision, when it is the next one."""


def change_begins(id: int, state: StreamState, length: int) -> Sequence[Any]:
    return (BEGINS, id, to_row(state), length)


def change_goes(id: int) -> Sequence[Any]:
    return (GOES, id)


def change_moves(
    id: int, before: StreamState, after: StreamState, length: int, entries: Sequence[str]
) -> Sequence[Any]:
    """``before`` and ``after`` are of one uid; ``entries`` as in ``Change``."""
    if after.config is not before.config and after.config != before.config:
        return change_begins(id, after, length)
    fields = _fields(before, after, entries)
    if fields:
        return (MOVES, id, after.tail, after.touched_at, length, fields)
    return (MOVES, id, after.tail, after.touched_at, length)


def _fields(before: StreamState, after: StreamState, entries: Sequence[str]) -> dict[int, Any]:
    fields: dict[int, Any] = {}
    if after.closed != before.closed:
        fields[_CLOSED] = after.closed
    if after.closed_by != before.closed_by:
        fields[_CLOSED_BY] = after.closed_by
    if after.stream_seq != before.stream_seq:
        fields[_STREAM_SEQ] = after.stream_seq
    if after.producers is not before.producers:
        came = _mapping_fields(fields, _PRODUCERS, before.producers, after.producers, entries)
        if came:
            fields[_PRODUCERS] = {key: producer_values(after.producers[key]) for key in came}
    if after.forks is not before.forks:
        came = _mapping_fields(fields, _FORKS, before.forks, after.forks, entries)
        if came:
            fields[_FORKS] = {key: after.forks[key] for key in came}
    if after.deleted != before.deleted:
        fields[_DELETED] = after.deleted
    if after.revision != before.revision + 1:
        fields[_REVISION] = after.revision
    return fields


def _mapping_fields(
    fields: dict[int, Any],
    number: int,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    entries: Sequence[str],
) -> list[str]:
    """Note the keys that are gone, and return those with a new value."""
    gone = [key for key in dict.fromkeys(entries) if key in before and key not in after]
    if gone:
        fields[number + 1] = gone
    return [key for key in entries if key in after and before.get(key) is not after[key]]


def moved_state(before: StreamState, change: Sequence[Any]) -> StreamState:
    """The state after a MOVES change of ``before``."""
    touched_at = change[3]
    fields: Mapping[int, Any] = change[5] if len(change) > 5 else {}
    closed_by = fields.get(_CLOSED_BY, before.closed_by)
    came = {id: read_producer(values, touched_at) for id, values in fields.get(_PRODUCERS, {}).items()}
    taken = {uid: to_reference(value) for uid, value in fields.get(_FORKS, {}).items()}
    return evolve(
        before,
        tail=change[2],
        touched_at=touched_at,
        closed=fields.get(_CLOSED, before.closed),
        closed_by=tuple(closed_by) if closed_by else None,
        stream_seq=fields.get(_STREAM_SEQ, before.stream_seq),
        producers=_moved(before.producers, came, fields.get(_PRODUCERS_GONE, ())) or NO_PRODUCERS,
        forks=_moved(before.forks, taken, fields.get(_FORKS_GONE, ())) or NO_FORKS,
        deleted=fields.get(_DELETED, before.deleted),
        revision=fields.get(_REVISION, before.revision + 1),
    )


def _moved(before: Mapping[str, Any], came: Mapping[str, Any], gone: Sequence[str]) -> Mapping[str, Any]:
    after = before
    for key, value in came.items():
        after = with_entry(after, key, value)
    for key in gone:
        after = without_entry(after, key)
    return after
