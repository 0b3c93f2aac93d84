"""The persistent objects of a shard and how a stream's bytes lie in them (docs/storage-acid.md, "Objects").

Decides when bytes move from the head to a chunk and from chunks to a segment. Transactions, checksums and the trees of
names and deadlines are left to others; positions are positions in the stream.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isnan, nan
from struct import Struct, unpack_from
from typing import Any, Final

from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent

from durable_streams.persistent_map import compact
from durable_streams.protocol.state import NO_FORKS, NO_PRODUCERS, StreamState
from durable_streams.storage.rows import from_row, producer_values, read_producer, to_reference, to_row

INLINE_BYTES_MAX: Final = 2048
"""As many bytes stay in the head: writing them again costs less than a second object."""
SEGMENT_BYTES: Final = 64 << 10
"""So many bytes in chunks are put together to segments, each of at least this and less than twice this length."""
INLINE_ENTRIES_MAX: Final = 32
"""More producers, or references, than this have a tree of their own instead of being written with every append."""
ENTRIES_READ_AT_ONCE: Final = 2000
"""About 3 ms; then the event loop runs."""
CHUNK_BYTES: Final = 16 << 10
"""So many bytes in small chunks are put together to one, so that a head never refers to many."""
HEAD_VERSION: Final = 1
_LENGTH: Final = Struct(">I")
_FIXED: Final = Struct(">BBHHIqd")
"""Version, which trees there are, number of chunks, lengths of uid and row, end of the segments, deadline."""


class Segments(LOBTree):  # type: ignore[misc]
    """Position of the first byte -> Segment."""

    max_leaf_size = 32
    """Every merge writes the last leaf again."""


class Piece(Persistent):  # type: ignore[misc]
    """Bytes of a stream as one record; never changed once it is written."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __getstate__(self) -> bytes:
        return self.data

    def __setstate__(self, data: bytes) -> None:
        self.data = data


class Chunk(Piece):
    """What a head has spilled; it goes when it is merged into a segment."""

    __slots__ = ()


class Segment(Piece):
    """What stays for as long as the stream does."""

    __slots__ = ()


class Head(Persistent):  # type: ignore[misc]
    """All of a stream: its state, its last bytes, and where the others are.

    An append changes this one object and no other, but for one time in ten or so.
    """

    __slots__ = (
        "_v_revision",
        "chunks",
        "lengths",
        "producers",
        "queued_at",
        "references",
        "row",
        "sealed",
        "sealed_stop",
        "tail",
        "uid",
    )

    def __init__(self, state: StreamState) -> None:
        self.uid: str = state.config.uid
        self.row = b""
        self._v_revision = 0
        """Of the row; 0 until somebody asks for it. Not part of the record."""
        self.queued_at: float | None = None
        """The stream's entry in the tree of deadlines; at or before its real deadline."""
        self.producers: OOBTree | None = None
        self.references: OOBTree | None = None
        self.sealed: Segments | None = None
        self.sealed_stop: int = state.config.forked_at
        """Bytes before this position are in segments, those behind it in chunks, the last ones in the tail."""
        self.chunks: tuple[Chunk, ...] = ()
        self.lengths: tuple[int, ...] = ()
        """Of the chunks, none of which needs to be loaded for it."""
        self.tail = b""

    def __getstate__(self) -> bytes | tuple[Any, ...]:
        producers, references, sealed, lengths = self.producers, self.references, self.sealed, self.lengths
        uid, row = self.uid.encode(), self.row
        queued_at = nan if self.queued_at is None else self.queued_at
        flags = (producers is not None) | (references is not None) << 1 | (sealed is not None) << 2
        fixed = _FIXED.pack(
            HEAD_VERSION, flags, len(lengths), len(uid), len(row), self.sealed_stop, queued_at
        )
        packed = b"".join((fixed, *map(_LENGTH.pack, lengths), uid, row, self.tail))
        if not flags:
            return (packed, *self.chunks) if lengths else packed
        # Pickling calls a function of ZODB for every object in here.
        trees = [tree for tree in (producers, references, sealed) if tree is not None]
        return (packed, *trees, *self.chunks)

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
        self.tail = packed[at + uid + row :]
        self.queued_at = None if isnan(queued_at) else queued_at
        found = iter(refers)
        self.producers, self.references, self.sealed = (
            next(found) if flags & 1 << bit else None for bit in range(3)
        )
        self.chunks = tuple(found)

    # -- bytes -------------------------------------------------------------------------------------------------

    @property
    def stop(self) -> int:
        """The position after the last byte."""
        return self.sealed_stop + sum(self.lengths) + len(self.tail)

    def append(self, parts: Sequence[bytes]) -> Sequence[Chunk]:
        """Add bytes at the end; returns the chunks that are not needed any more."""
        data = b"".join((self.tail, *parts))
        if len(data) <= INLINE_BYTES_MAX:
            self.tail = data
            return ()
        self.tail = b""
        if sum(self.lengths) + len(data) >= SEGMENT_BYTES:
            merged, data = self._take_chunks(0, data)
            self._seal(data)
            return merged
        kept = len(self.lengths)
        while kept and self.lengths[kept - 1] < CHUNK_BYTES:
            kept -= 1
        merged = ()
        if sum(self.lengths[kept:]) + len(data) >= CHUNK_BYTES:
            merged, data = self._take_chunks(kept, data)
        self.chunks = (*self.chunks, Chunk(data))
        self.lengths = (*self.lengths, len(data))
        return merged

    def _take_chunks(self, kept: int, data: bytes) -> tuple[Sequence[Chunk], bytes]:
        """Take the chunks off from number ``kept`` on, and give their bytes back with ``data`` behind them."""
        taken = self.chunks[kept:]
        self.chunks, self.lengths = self.chunks[:kept], self.lengths[:kept]
        return taken, b"".join((*(chunk.data for chunk in taken), data))

    def _seal(self, data: bytes) -> None:
        sealed = self.sealed
        if sealed is None:
            sealed = self.sealed = Segments()
        begin, count = self.sealed_stop, len(data) // SEGMENT_BYTES
        for number in range(count):
            start = number * SEGMENT_BYTES
            stop = start + SEGMENT_BYTES if number < count - 1 else len(data)
            sealed[begin + start] = Segment(data[start:stop])
        self.sealed_stop = begin + len(data)

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
            parts.append(self.tail[max(0, start - begin) : stop - begin])
        return b"".join(parts)

    # -- state -------------------------------------------------------------------------------------------------

    def state(self, yield_to_loop: Callable[[], None] = lambda: None) -> StreamState:
        """The recorded state; ``yield_to_loop`` is called now and then while trees are read."""
        state = from_row(pickle.loads(self.row))
        if self.producers is not None:
            found = _entries(self.producers, yield_to_loop)
            state.producers = compact({id: read_producer(values, state.touched_at) for id, values in found})
        if self.references is not None:
            taken = _entries(self.references, yield_to_loop)
            state.forks = compact({uid: to_reference(value) for uid, value in taken})
        return state

    @property
    def revision(self) -> int:
        """Of the recorded state."""
        if not self._v_revision:
            self._v_revision = from_row(pickle.loads(self.row)).revision
        return self._v_revision

    def record(
        self, before: StreamState | None, after: StreamState, entries: Sequence[str] = ()
    ) -> list[Persistent]:
        """Make ``after`` the recorded state instead of ``before``; returns the objects that are not needed any more.

        ``entries`` as in ``Change``.
        """
        unneeded: list[Persistent] = []
        producers, references = after.producers, after.forks
        if (self.producers, self.references) != (None, None) or _are_many(producers) or _are_many(references):
            unneeded = self._record_trees(before, after, entries)
            after = replace(
                after,
                producers=producers if self.producers is None else NO_PRODUCERS,
                forks=references if self.references is None else NO_FORKS,
            )
        self.row = pickle.dumps(to_row(after), protocol=4)
        self._v_revision = after.revision
        return unneeded

    def _record_trees(
        self, before: StreamState | None, after: StreamState, entries: Sequence[str]
    ) -> list[Persistent]:
        unneeded: list[Persistent] = []
        old_producers = before.producers if before else NO_PRODUCERS
        old_forks = before.forks if before else NO_FORKS
        producers = _follow(self.producers, old_producers, after.producers, producer_values, entries)
        references = _follow(self.references, old_forks, after.forks, tuple, entries)
        if producers is not self.producers:
            unneeded += tree_parts(self.producers)
            self.producers = producers
        if references is not self.references:
            unneeded += tree_parts(self.references)
            self.references = references
        return unneeded

    def parts(self) -> list[Persistent]:
        """Every object that goes with this one, itself included."""
        parts: list[Persistent] = [self, *self.chunks]
        for tree in (self.producers, self.references, self.sealed):
            parts += tree_parts(tree)
        if self.sealed is not None:
            parts += self.sealed.values()
        return parts


def _part(piece: Piece, begin: int, start: int, stop: int) -> bytes:
    data = piece.data[max(0, start - begin) : stop - begin]
    piece._p_deactivate()
    return data


def _are_many(entries: Mapping[str, Any]) -> bool:
    return len(entries) > INLINE_ENTRIES_MAX


def _follow(
    tree: OOBTree | None,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    plain: Callable[[Any], Any],
    entries: Sequence[str],
) -> OOBTree | None:
    """The tree that holds ``after``: None when it is small, a new one, or the old one with what has changed."""
    if not _are_many(after):
        return None
    if tree is None:
        return OOBTree({key: plain(value) for key, value in after.items()})
    for key in entries if before is not after else ():
        value = after.get(key)
        if value is None:
            tree.pop(key, None)
        elif before.get(key) is not value:
            tree[key] = plain(value)
    return tree


def _entries(tree: OOBTree, yield_to_loop: Callable[[], None]) -> Iterator[tuple[str, Any]]:
    for number, entry in enumerate(tree.items(), 1):
        if number % ENTRIES_READ_AT_ONCE == 0:
            yield_to_loop()
        yield entry


def tree_parts(tree: Any) -> Iterator[Persistent]:
    """A BTree with all of its nodes that are records of their own."""
    if tree is None:
        return
    yield tree
    state = tree.__getstate__() if hasattr(tree, "maxKey") and not _is_bucket(tree) else None
    if state is None or len(state) == 1:
        return
    for child in state[0][::2]:
        yield from (child,) if _is_bucket(child) else tree_parts(child)


def _is_bucket(node: Any) -> bool:
    return type(node).__name__.endswith("Bucket")
