"""The producers and forks of a stream that has many: rows of their own, so that an append writes those that it changes.

The stream's row then has neither. A row of ``entries`` is found by a digest, since a producer's id may be longer than
an index takes; its data are the msgpack of (field of the state's row, id, values).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change
from durable_streams.storage.postgres.arrays import to_int8
from durable_streams.storage.postgres.connection import Rows
from durable_streams.storage.rows import FORKS, PRODUCERS, producer_values, to_row

INLINE_ENTRIES_MAX: Final = 32
"""So many producers, and so many forks, are in the stream's row."""
LOAD: Final = b"""
    select s.uid, s.mark, s.row from streams s where s.name = $1
    union all
    select null, count(*), string_agg(e.data, ''::bytea)
        from streams s join entries e on e.uid = s.uid where s.name = $1 group by get_byte(e.key, 0)"""
"""The row, and the entries in up to 256 parts: the number of each and their data; as of one moment."""
_ARRAY: Final = struct.Struct(">BI")
_ARRAY_32: Final = 0xDD
"""msgpack's mark of an array that is preceded by its length in 32 bits."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


class WholeMark(int):
    """The mark of a recorded state whose row has all of its many entries, as servers of schema version 1 wrote it."""


Entry = tuple[bytes, bytes | None, bytes | None]
"""uid, key (None: all of the uid), data (None: it goes)."""


def encode_row(state: StreamState) -> bytes:
    """The stream's row, with its entries if they are few."""
    if not are_many(state):
        return _encode(to_row(state))
    row = list(to_row(state, {}, {}))
    row[PRODUCERS] = row[FORKS] = None
    return _encode(row)


def has_entries_elsewhere(row: Sequence[Any]) -> bool:
    return row[PRODUCERS] is None


def changed_entries(change: Change) -> Iterator[Entry]:
    """What ``change`` does to the rows of entries; those of a uid that goes are deleted later, with its bytes."""
    before, after = change.before, change.after
    if after is None:
        return
    uid = after.config.uid.encode()
    had_many = before is not None and not change.is_new and _has_entries(before)
    if not are_many(after):
        if had_many:
            yield uid, None, None
        return
    ids = dict.fromkeys(change.entries if had_many else (*after.producers, *after.forks))
    for id in ids:
        for field in (PRODUCERS, FORKS):
            entry = _entry(uid, field, id, before if had_many else None, after)
            if entry is not None:
                yield entry


def loaded_row(rows: Rows) -> tuple[Sequence[Any], bytes] | None:
    """The row with its entries, and the mark, from the rows of LOAD; None when the stream has gone meanwhile."""
    found: tuple[list[Any], bytes] | None = None
    entries: list[Any] = []
    for uid, number, data in rows:
        assert number is not None
        assert data is not None
        if uid is not None:
            found = _decode(data), number
        else:
            entries += _decode(_ARRAY.pack(_ARRAY_32, to_int8(number)) + data)
    if found is not None and has_entries_elsewhere(found[0]):
        found[0][PRODUCERS], found[0][FORKS] = {}, {}
        for field, id, values in entries:
            found[0][field][id] = values
    return found


def _entry(uid: bytes, field: int, id: str, before: StreamState | None, after: StreamState) -> Entry | None:
    new = _values(after, field, id)
    if new is None and (before is None or _values(before, field, id) is None):
        return None
    key = blake2b(b"%d " % field + id.encode(), digest_size=16).digest()
    return uid, key, None if new is None else _encode((field, id, new))


def _values(state: StreamState, field: int, id: str) -> tuple[Any, ...] | None:
    if field == FORKS:
        reference = state.forks.get(id)
        return None if reference is None else tuple(reference)
    producer = state.producers.get(id)
    return None if producer is None else producer_values(producer)


def are_many(state: StreamState) -> bool:
    """Whether the entries of a state have rows of their own from its next change on."""
    return max(len(state.producers), len(state.forks)) > INLINE_ENTRIES_MAX


def _has_entries(state: StreamState) -> bool:
    """Whether they have them now."""
    return are_many(state) and not isinstance(state.mark, WholeMark)
