"""The persistent objects of a shard and how a stream's bytes lie in them (docs/storage-acid.md, "Objects").

Decides when bytes move from the head to a chunk and from chunks to a segment. Transactions, checksums and the trees of
names and deadlines are left to others; positions are positions in the stream.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent

from durable_streams.protocol.state import NO_PRODUCERS, NO_REFERENCES, ProducerState, StreamState
from durable_streams.store.rows import from_row, to_row

INLINE_BYTES_MAX: Final = 2048
"""As many bytes stay in the head: writing them again costs less than a second object."""
SEGMENT_BYTES: Final = 64 << 10
"""So many bytes in chunks are put together to segments, each of at least this and less than twice this length."""
INLINE_ENTRIES_MAX: Final = 32
"""More producers, or references, than this have a tree of their own instead of being written with every append."""
HEAD_VERSION: Final = 1


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
        "chunks",
        "incarnation",
        "producers",
        "queued_at",
        "references",
        "row",
        "sealed",
        "sealed_stop",
        "tail",
    )

    def __init__(self, state: StreamState) -> None:
        self.incarnation: str = state.config.incarnation
        self.row = b""
        self.queued_at: float | None = None
        """The stream's entry in the tree of deadlines; at or before its real deadline."""
        self.producers: OOBTree | None = None
        self.references: OOBTree | None = None
        self.sealed: Segments | None = None
        self.sealed_stop: int = state.config.base
        """Bytes before this position are in segments."""
        self.chunks: tuple[Any, ...] = ()
        """Position of the end, chunk, position of the end, chunk ..."""
        self.tail = b""

    def __getstate__(self) -> tuple[Any, ...]:
        return (
            HEAD_VERSION,
            self.incarnation,
            self.row,
            self.queued_at,
            self.producers,
            self.references,
            self.sealed,
            self.sealed_stop,
            self.chunks,
            self.tail,
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[0] != HEAD_VERSION:
            raise ValueError(f"head has version {state[0]!r}, and this server reads version {HEAD_VERSION}")
        (
            self.incarnation,
            self.row,
            self.queued_at,
            self.producers,
            self.references,
            self.sealed,
            self.sealed_stop,
            self.chunks,
            self.tail,
        ) = state[1:]

    # -- bytes -------------------------------------------------------------------------------------------------

    @property
    def stop(self) -> int:
        """The position after the last byte."""
        chunks_stop: int = self.chunks[-2] if self.chunks else self.sealed_stop
        return chunks_stop + len(self.tail)

    def append(self, parts: Sequence[bytes]) -> list[Chunk]:
        """Add bytes at the end; returns the chunks that are not needed any more."""
        data = b"".join((self.tail, *parts))
        if len(data) <= INLINE_BYTES_MAX:
            self.tail = data
            return []
        stop = self.stop - len(self.tail) + len(data)
        self.tail = b""
        if stop - self.sealed_stop < SEGMENT_BYTES:
            self.chunks = (*self.chunks, stop, Chunk(data))
            return []
        merged: list[Chunk] = list(self.chunks[1::2])
        self._seal(b"".join((*(chunk.data for chunk in merged), data)))
        self.chunks = ()
        return merged

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
        for end, chunk in zip(self.chunks[::2], self.chunks[1::2], strict=True):
            if begin < stop and end > start:
                parts.append(_part(chunk, begin, start, stop))
            begin = end
        if stop > begin:
            parts.append(self.tail[max(0, start - begin) : stop - begin])
        return b"".join(parts)

    # -- state -------------------------------------------------------------------------------------------------

    def state(self) -> StreamState:
        state = from_row(pickle.loads(self.row))
        if self.producers is not None:
            state.producers = {id: ProducerState(*pair) for id, pair in self.producers.items()}
        if self.references is not None:
            state.references = dict(self.references)
        return state

    def record(self, before: StreamState | None, after: StreamState) -> list[Persistent]:
        """Make ``after`` the recorded state instead of ``before``; returns the objects that are not needed any more."""
        old_producers = before.producers if before else NO_PRODUCERS
        old_references = before.references if before else NO_REFERENCES
        producers = _follow(self.producers, old_producers, after.producers, _pair)
        references = _follow(self.references, old_references, after.references, str)
        unneeded: list[Persistent] = []
        if producers is not self.producers:
            unneeded += tree_parts(self.producers)
            self.producers = producers
        if references is not self.references:
            unneeded += tree_parts(self.references)
            self.references = references
        if producers is not None or references is not None:
            after = replace(
                after,
                producers=NO_PRODUCERS if producers is not None else after.producers,
                references=NO_REFERENCES if references is not None else after.references,
            )
        self.row = pickle.dumps(to_row(after), protocol=4)
        return unneeded

    def parts(self) -> list[Persistent]:
        """Every object that goes with this one, itself included."""
        parts: list[Persistent] = [self, *self.chunks[1::2]]
        for tree in (self.producers, self.references, self.sealed):
            parts += tree_parts(tree)
        if self.sealed is not None:
            parts += self.sealed.values()
        return parts


def _part(piece: Piece, begin: int, start: int, stop: int) -> bytes:
    data = piece.data[max(0, start - begin) : stop - begin]
    piece._p_deactivate()
    return data


def _pair(producer: ProducerState) -> tuple[int, int]:
    return producer.epoch, producer.seq


def _follow(
    tree: OOBTree | None, before: Mapping[str, Any], after: Mapping[str, Any], plain: Any
) -> OOBTree | None:
    """The tree that holds ``after``: None when it is small, a new one, or the old one with what has changed."""
    if len(after) <= INLINE_ENTRIES_MAX:
        return None
    if tree is None:
        return OOBTree({key: plain(value) for key, value in after.items()})
    if before is after:
        return tree
    for key, value in after.items():
        if before.get(key) is not value:
            tree[key] = plain(value)
    if len(before) > len(after) or before.keys() - after.keys():
        for key in before.keys() - after.keys():
            del tree[key]
    return tree


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
