"""The persistent objects of a shard and how a stream's bytes lie in them (docs/storage-acid.md, "Objects").

Decides when bytes move from the head to a segment. Transactions, checksums and the trees of names and deadlines are
left to others; positions are positions in the stream.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isnan, nan
from struct import Struct, unpack_from
from typing import Any, Final

from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent

from durable_streams.protocol.state import StreamState
from durable_streams.storage.rows import FORKS, PRODUCERS, from_row, producer_values, to_row
from durable_streams.storage.zodb.entries import EntryLog, Piece

INLINE_BYTES_MAX: Final = 2048
"""As many bytes stay in the head: writing them again costs less than a second object."""
SEGMENT_BYTES: Final = 64 << 10
"""No segment is longer; shorter ones at the end are put together to one of this length."""
GROWING_BYTES_MAX: Final = 16 << 10
"""Up to this length the last segment takes more bytes, and is written again each time."""
INLINE_ENTRIES_MAX: Final = 32
"""So many producers, and so many forks, are in the row, which is written with every append. Where there are more, the
row has those that have changed since the last run of the log."""
HEAD_VERSION: Final = 1
_LENGTH: Final = Struct(">I")
_FIXED: Final = Struct(">BBHHIqd")
"""Version, which trees there are, number of chunks, lengths of uid and row, end of the segments, deadline."""


class Segments(LOBTree):  # type: ignore[misc]
    """Position of the first byte -> Segment."""

    max_leaf_size = 32
    """Every new segment writes the last leaf again."""


class Segment(Piece):
    """Bytes that are no longer in the head."""

    __slots__ = ()


class Chunk(Piece):
    """Bytes of an older head, behind the segments; they become part of one when more bytes leave the head."""

    __slots__ = ()


class Head(Persistent):  # type: ignore[misc]
    """All of a stream: its state, its last bytes, and where the others are.

    An append changes this one object and no other, but for one time in ten or so.
    """

    __slots__ = (
        "_v_inline",
        "_v_revision",
        "chunks",
        "forks",
        "inline_bytes",
        "lengths",
        "producers",
        "queued_at",
        "row",
        "sealed",
        "sealed_stop",
        "uid",
    )

    def __init__(self, state: StreamState) -> None:
        self.uid: str = state.config.uid
        self.row = b""
        self._v_revision = 0
        """Of the row; 0 until somebody asks for it. Not part of the record."""
        self._v_inline: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
        """The producers and the forks in the row; None until somebody asks for them. Not part of the record."""
        self.queued_at: float | None = None
        """The stream's entry in the tree of deadlines; at or before its real deadline."""
        self.producers: EntryLog | OOBTree | None = None
        self.forks: EntryLog | OOBTree | None = None
        """Older directories have a tree; it becomes a log when it changes."""
        self.sealed: Segments | None = None
        self.sealed_stop: int = state.config.forked_at
        """Bytes before this position are in segments, the last ones inline; those between are in chunks, if any."""
        self.chunks: tuple[Chunk, ...] = ()
        self.lengths: tuple[int, ...] = ()
        """Of the chunks, none of which needs to be loaded for it."""
        self.inline_bytes = b""

    def __getstate__(self) -> bytes | tuple[Any, ...]:
        producers, forks, sealed, lengths = self.producers, self.forks, self.sealed, self.lengths
        uid, row = self.uid.encode(), self.row
        queued_at = nan if self.queued_at is None else self.queued_at
        flags = (producers is not None) | (forks is not None) << 1 | (sealed is not None) << 2
        fixed = _FIXED.pack(
            HEAD_VERSION, flags, len(lengths), len(uid), len(row), self.sealed_stop, queued_at
        )
        packed = b"".join((fixed, *map(_LENGTH.pack, lengths), uid, row, self.inline_bytes))
        if not flags:
            return (packed, *self.chunks) if lengths else packed
        # Pickling calls a function of ZODB for every object in here.
        others = [other for other in (producers, forks, sealed) if other is not None]
        return (packed, *others, *self.chunks)

    def __setstate__(self, state: bytes | tuple[Any, ...]) -> None:
        packed, *refers = (state,) if isinstance(state, bytes) else state
        version, flags, chunks, uid, row, self.sealed_stop, queued_at = _FIXED.unpack_from(packed)
        if version != HEAD_VERSION:
            raise ValueError(f"head has version {version}, and this server reads version {HEAD_VERSION}")
        at = _FIXED.size + 4 * chunks
        self.lengths = unpack_from(f">{chunks}I", packed, _FIXED.size)
        self.uid = packed[at : at + uid].decode()
        self.row = packed[at + uid : at + uid + row]
        self._v_revision = 0
        self._v_inline = None
        self.inline_bytes = packed[at + uid + row :]
        self.queued_at = None if isnan(queued_at) else queued_at
        found = iter(refers)
        self.producers, self.forks, self.sealed = (
            next(found) if flags & 1 << bit else None for bit in range(3)
        )
        self.chunks = tuple(found)

    # -- bytes -------------------------------------------------------------------------------------------------

    @property
    def stop(self) -> int:
        """The position after the last byte."""
        return self.sealed_stop + sum(self.lengths) + len(self.inline_bytes)

    def append(self, parts: Sequence[bytes]) -> Sequence[Persistent]:
        """Add bytes at the end; returns the objects that are not needed any more."""
        data = b"".join((self.inline_bytes, *parts))
        if len(data) <= INLINE_BYTES_MAX:
            self.inline_bytes = data
            return ()
        chunks, self.chunks, self.lengths = self.chunks, (), ()
        self.inline_bytes = b""
        return [*chunks, *self._seal(b"".join((*(chunk.data for chunk in chunks), data)))]

    def _seal(self, data: bytes) -> Sequence[Segment]:
        if self.sealed is None:
            self.sealed = Segments()
        sealed, begin = self.sealed, self.sealed_stop
        self.sealed_stop += len(data)
        # So near to the end, none is of full length.
        starts = list(sealed.keys(begin - SEGMENT_BYTES, excludemin=True))
        if starts and self.sealed_stop - starts[-1] <= GROWING_BYTES_MAX:
            sealed[starts[-1]].data += data
            return ()
        merged: list[Segment] = []
        if starts and self.sealed_stop - starts[0] >= SEGMENT_BYTES:
            begin, merged = starts[0], [sealed.pop(start) for start in starts]
            data = b"".join((*(segment.data for segment in merged), data))
        for at in range(0, len(data), SEGMENT_BYTES):
            sealed[begin + at] = Segment(data[at : at + SEGMENT_BYTES])
        return merged

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` to ``stop``, none of which stays in memory for it."""
        parts: list[bytes] = []
        if start < min(stop, self.sealed_stop):
            assert self.sealed is not None
            for begin, segment in self.sealed.items(self.sealed.maxKey(start), stop, excludemax=True):
                parts.append(_part(segment, begin, start, stop))
        begin = self.sealed_stop
        for length, chunk in zip(self.lengths, self.chunks, strict=True):
            if begin < stop and begin + length > start:
                parts.append(_part(chunk, begin, start, stop))
            begin += length
        if stop > begin:
            parts.append(self.inline_bytes[max(0, start - begin) : stop - begin])
        return b"".join(parts)

    # -- state -------------------------------------------------------------------------------------------------

    def state(self, yield_to_loop: Callable[[], None] = lambda: None) -> StreamState:
        """The recorded state; ``yield_to_loop`` is called now and then while many entries are read.

        Raises ValueError when it is that of other bytes.
        """
        row = list(pickle.loads(self.row))
        if self.producers is not None:
            row[PRODUCERS] = _all_entries(self.producers, row[PRODUCERS], yield_to_loop)
        if self.forks is not None:
            row[FORKS] = _all_entries(self.forks, row[FORKS], yield_to_loop)
        state = from_row(row)
        if (state.uid, state.tail) != (self.uid, self.stop):
            raise ValueError(
                f"the bytes of {self.uid} end at {self.stop}, not as {state.uid} at {state.tail}"
            )
        return state

    @property
    def revision(self) -> int:
        """Of the recorded state."""
        if not self._v_revision:
            self._v_revision = from_row(pickle.loads(self.row)).revision
        return self._v_revision

    def record(
        self,
        after: StreamState,
        entries: Sequence[str] = (),
        yield_to_loop: Callable[[], None] = lambda: None,
    ) -> list[Persistent]:
        """Make ``after`` the recorded state; returns the objects that are not needed any more.

        ``entries`` as in ``Change``. ``yield_to_loop`` is called now and then while runs of many entries are merged.
        """
        logs = self.producers is not None or self.forks is not None
        if not logs and max(len(after.producers), len(after.forks)) <= INLINE_ENTRIES_MAX:
            self.row, self._v_inline = pickle.dumps(to_row(after), protocol=4), None
            unneeded: list[Persistent] = []
        else:
            inline = self._inline()
            self.producers, producers, some = _record_entries(
                self.producers, inline[0], after.producers, producer_values, entries, yield_to_loop
            )
            self.forks, forks, more = _record_entries(
                self.forks, inline[1], after.forks, tuple, entries, yield_to_loop
            )
            unneeded = [*some, *more]
            self._v_inline = producers, forks
            self.row = pickle.dumps(to_row(after, *self._v_inline), protocol=4)
        self._v_revision = after.revision
        return unneeded

    def _inline(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The producers and the forks in the row."""
        if self._v_inline is None:
            row = pickle.loads(self.row) if self.row else None
            self._v_inline = (row[PRODUCERS], row[FORKS]) if row else ({}, {})
        return self._v_inline

    def parts(self) -> list[Persistent]:
        """Every object that goes with this one, itself included."""
        parts: list[Persistent] = [self, *self.chunks]
        for log in (self.producers, self.forks):
            parts += _log_parts(log)
        parts += tree_parts(self.sealed)
        if self.sealed is not None:
            parts += self.sealed.values()
        return parts


def _part(piece: Piece, begin: int, start: int, stop: int) -> bytes:
    data = piece.data[max(0, start - begin) : stop - begin]
    piece._p_deactivate()
    return data


def _record_entries(
    log: EntryLog | OOBTree | None,
    inline: Mapping[str, Any],
    after: Mapping[str, Any],
    plain: Callable[[Any], Any],
    changed: Sequence[str],
    yield_to_loop: Callable[[], None],
) -> tuple[EntryLog | None, Mapping[str, Any], Sequence[Persistent]]:
    """Record entries of one kind; returns their log, those in the row, and the objects that are not needed any more.

    ``inline`` are those that were in the row, ``after`` is all that there are now, which ``plain`` makes values of.
    """
    if len(after) <= INLINE_ENTRIES_MAX:
        return None, {key: plain(value) for key, value in after.items()}, _log_parts(log)
    if not isinstance(log, EntryLog):
        new = EntryLog()
        new.add({key: plain(value) for key, value in after.items()}, yield_to_loop)
        return new, {}, _log_parts(log)
    inline = {**inline, **{key: plain(after[key]) if key in after else None for key in changed}}
    if len(inline) <= INLINE_ENTRIES_MAX and None not in inline.values():
        return log, inline, ()
    return log, {}, log.add(inline, yield_to_loop)


def _all_entries(
    log: EntryLog | OOBTree, inline: Mapping[str, Any], yield_to_loop: Callable[[], None]
) -> Mapping[str, Any]:
    entries = log.entries(yield_to_loop) if isinstance(log, EntryLog) else dict(log)
    return {**entries, **inline}


def _log_parts(log: EntryLog | OOBTree | None) -> list[Persistent]:
    """Every object that goes with a log, itself included."""
    return [log, *log.parts] if isinstance(log, EntryLog) else list(tree_parts(log))


def tree_parts(tree: Any) -> Iterator[Persistent]:
    """A BTree with all of its nodes that are records of their own."""
    if tree is None:
        return
    yield tree
    state = tree.__getstate__() if isinstance(tree, (LOBTree, OOBTree)) else None
    if state is not None and len(state) > 1:
        for child in state[0][::2]:
            yield from tree_parts(child)
