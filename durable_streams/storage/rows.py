"""A StreamState as a tuple of plain values, and back: the form in which durable storages record it.

Row, version 3, field by field. A later version appends fields and raises the number; rows of older versions are read.

    0 version        int     3
    1 name           str
    2 uid            str
    3 content_type   str
    4 expiry         None | (ttl_s | None, expires_at | None, expires_at_text | None)
    5 fork           None | (source, source uid, position, anchor, sub_offset, inherits_expiry, life)
    6 life           int
    7 tail           int
    8 touched_at     float
    9 closed         bool
    10 closed_by     None | (producer id, epoch, seq)
    11 stream_seq    None | str
    12 producers     {id: (epoch, seq, seen_at)}
    13 forks         {fork uid: (fork name, taken_at)}; a fork name alone in version 1
    14 deleted       bool
    15 old_messages  bool
    16 revision      int
    17 message_offsets  bool

Version 2 ended with field 16, and such a stream has no offsets in its messages.

Version 1 ended with field 14. Field 6 was the creation time in seconds, a float, and ``fork`` ended before its life.
Such a stream gets its creation time as its life, and such a fork writes the offset of its fork point in its own life.
It is at its first revision, its messages are stored in the old form, and its producers, which were (epoch, seq), count
as seen at the start of its window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from durable_streams.persistent_map import compact
from durable_streams.protocol.state import (
    NO_EXPIRY,
    NO_FORKS,
    NO_PRODUCERS,
    Expiry,
    ForkPoint,
    ForkReference,
    ProducerState,
    StreamConfig,
    StreamState,
)

ROW_VERSION: Final = 3
_OLDEST_VERSION: Final = 1
PRODUCERS: Final = 12
FORKS: Final = 13
REVISION: Final = 16


def to_row(
    state: StreamState, producers: Mapping[str, Any] | None = None, forks: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    """Plain tuples, dicts, text, numbers and None, fit for pickle, msgpack and the like.

    ``producers`` and ``forks`` stand in the row instead of all that ``state`` has, for who keeps the others elsewhere.
    """
    config = state.config
    expiry, fork = config.expiry, config.fork
    return (
        ROW_VERSION,
        config.name,
        config.uid,
        config.content_type,
        None if expiry == NO_EXPIRY else (expiry.ttl_s, expiry.expires_at, expiry.expires_at_text),
        None
        if fork is None
        else (
            fork.source,
            fork.source_uid,
            fork.position,
            fork.anchor,
            fork.sub_offset,
            fork.inherits_expiry,
            fork.life,
        ),
        config.life,
        state.tail,
        state.touched_at,
        state.closed,
        state.closed_by,
        state.stream_seq,
        {id: producer_values(producer) for id, producer in state.producers.items()}
        if producers is None
        else producers,
        {uid: tuple(reference) for uid, reference in state.forks.items()} if forks is None else forks,
        state.deleted,
        config.old_messages,
        state.revision,
        config.message_offsets,
    )


def producer_values(producer: ProducerState) -> tuple[int, int, int]:
    return producer.epoch, producer.seq, producer.seen_at


def read_producer(values: Sequence[int], touched_at: float) -> ProducerState:
    """What ``producer_values`` gave, or the (epoch, seq) of version 1 with the start of the window."""
    epoch, seq, *seen_at = values
    return ProducerState(epoch, seq, seen_at[0] if seen_at else int(touched_at))


def from_row(row: Sequence[Any]) -> StreamState:
    """The state that ``to_row`` wrote; sequences may have become lists. Raises ValueError for an unknown version."""
    version = row[0]
    if version in _UPGRADES:
        row = _UPGRADES[version](row)
    elif version != ROW_VERSION:
        raise ValueError(
            f"state row has version {version!r}, and this server reads versions {_OLDEST_VERSION} to {ROW_VERSION}"
        )
    config = StreamConfig(
        name=row[1],
        uid=row[2],
        content_type=row[3],
        expiry=Expiry(*row[4]) if row[4] else NO_EXPIRY,
        fork=ForkPoint(*row[5]) if row[5] else None,
        life=row[6],
        old_messages=row[15],
        message_offsets=row[17],
    )
    return StreamState(
        config=config,
        tail=row[7],
        touched_at=row[8],
        closed=row[9],
        closed_by=tuple(row[10]) if row[10] else None,
        stream_seq=row[11],
        producers=compact({id: read_producer(values, row[8]) for id, values in row[PRODUCERS].items()})
        or NO_PRODUCERS,
        forks=compact({uid: to_reference(value) for uid, value in row[FORKS].items()}) or NO_FORKS,
        deleted=row[14],
        revision=row[REVISION],
    )


def _from_version_1(row: Sequence[Any]) -> Sequence[Any]:
    life = max(1, int(row[6] * 1_000_000))
    fork = (*row[5], life) if row[5] else None
    return _from_version_2((2, *row[1:5], fork, life, *row[7:15], True, 1))


def _from_version_2(row: Sequence[Any]) -> Sequence[Any]:
    return (ROW_VERSION, *row[1:], False)


_UPGRADES: Final = {1: _from_version_1, 2: _from_version_2}


def to_reference(value: Any) -> ForkReference:
    """A fork's reference from what was written of it: (name, taken_at), or the name alone by version 1."""
    return ForkReference(value, 0.0) if isinstance(value, str) else ForkReference(*value)
