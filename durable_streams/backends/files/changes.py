"""One change of one stream as a journal keeps it: only what moved, and the whole state again from that.

The arrays are those of docs/storage-files.md, "Journal". Values are absolute, never differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from durable_streams.protocol.state import NO_PRODUCERS, NO_REFERENCES, ProducerState, StreamState
from durable_streams.store.rows import to_row

BEGINS: Final = 0
GOES: Final = 1
MOVES: Final = 2

_CLOSED, _CLOSED_BY, _STREAM_SEQ, _PRODUCERS, _PRODUCERS_GONE, _REFERENCES, _REFERENCES_GONE, _DELETED = (
    range(8)
)


def begins(id: int, state: StreamState, length: int) -> Sequence[Any]:
    return (BEGINS, id, to_row(state), length)


def goes(id: int) -> Sequence[Any]:
    return (GOES, id)


def moves(id: int, before: StreamState, after: StreamState, length: int) -> Sequence[Any]:
    """``before`` and ``after`` are of one incarnation."""
    if after.config is not before.config and after.config != before.config:
        return begins(id, after, length)
    fields = _fields(before, after)
    if fields:
        return (MOVES, id, after.tail, after.renewed_at, length, fields)
    return (MOVES, id, after.tail, after.renewed_at, length)


def _fields(before: StreamState, after: StreamState) -> dict[int, Any]:
    fields: dict[int, Any] = {}
    if after.closed != before.closed:
        fields[_CLOSED] = after.closed
    if after.closed_by != before.closed_by:
        fields[_CLOSED_BY] = after.closed_by
    if after.stream_seq != before.stream_seq:
        fields[_STREAM_SEQ] = after.stream_seq
    if after.producers is not before.producers:
        _mapping_fields(fields, _PRODUCERS, before.producers, after.producers)
    if after.references is not before.references:
        _mapping_fields(fields, _REFERENCES, before.references, after.references)
    if after.deleted != before.deleted:
        fields[_DELETED] = after.deleted
    return fields


def _mapping_fields(
    fields: dict[int, Any], number: int, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    came = {key: value for key, value in after.items() if before.get(key) is not value}
    if came:
        fields[number] = {key: _plain(value) for key, value in came.items()}
    if len(after) < len(before) + len(came):
        gone = [key for key in before if key not in after]
        if gone:
            fields[number + 1] = gone


def _plain(value: Any) -> Any:
    return (value.epoch, value.seq) if isinstance(value, ProducerState) else value


def moved(before: StreamState, change: Sequence[Any]) -> StreamState:
    """The state after a MOVES change of ``before``."""
    fields: Mapping[int, Any] = change[5] if len(change) > 5 else {}
    closed_by = fields.get(_CLOSED_BY, before.closed_by)
    producers = before.producers
    if _PRODUCERS in fields or _PRODUCERS_GONE in fields:
        came = {key: ProducerState(*pair) for key, pair in fields.get(_PRODUCERS, {}).items()}
        producers = _moved_mapping(producers, came, fields.get(_PRODUCERS_GONE, ())) or NO_PRODUCERS
    references = before.references
    if _REFERENCES in fields or _REFERENCES_GONE in fields:
        came = fields.get(_REFERENCES, {})
        references = _moved_mapping(references, came, fields.get(_REFERENCES_GONE, ())) or NO_REFERENCES
    return StreamState(
        before.config,
        change[2],
        change[3],
        fields.get(_CLOSED, before.closed),
        tuple(closed_by) if closed_by else None,
        fields.get(_STREAM_SEQ, before.stream_seq),
        producers,
        references,
        fields.get(_DELETED, before.deleted),
    )


def _moved_mapping(before: Mapping[str, Any], came: Mapping[str, Any], gone: Sequence[str]) -> dict[str, Any]:
    after = {**before, **came}
    for key in gone:
        after.pop(key, None)
    return after
