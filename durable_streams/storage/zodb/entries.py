"""The producers and the forks of a stream that has many: a log of entries, so that a change of one costs no more.

The newest changes are in the head. When they are too many there, they become a *run*, an object of its own, and runs
are merged by and by: eight of one size become one of the next. So an entry is written a few times in all, whatever the
number of entries, where a tree would write one of its leaves for every changed entry.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from persistent import Persistent

MERGED_RUNS: Final = 8
_SIZE_BITS: Final = 3
"""Of the number of entries of a run: runs that have so many bits more are of another size."""
AT_ONCE: Final = 2000
"""Entries that take about 2 ms; then the event loop runs."""

Yield = Callable[[], None]


class Piece(Persistent):  # type: ignore[misc]
    """Bytes as one record."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __getstate__(self) -> bytes:
        return self.data

    def __setstate__(self, data: bytes) -> None:
        self.data = data


class RunPart(Piece):
    """At most ``AT_ONCE`` entries of a run: the pickle (protocol 4) of a dict, None for an entry that is gone."""

    __slots__ = ()


class EntryLog(Persistent):  # type: ignore[misc]
    """Runs of entries, the oldest first. Of a key, the newest value counts."""

    __slots__ = ("counts", "parts")

    def __init__(self) -> None:
        self.counts: tuple[int, ...] = ()
        """Entries of each run."""
        self.parts: tuple[RunPart, ...] = ()
        """Of all runs, one behind the other."""

    def __getstate__(self) -> tuple[Any, ...]:
        return (self.counts, *self.parts)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.counts, *parts = state
        self.parts = tuple(parts)

    def entries(self, yield_to_loop: Yield) -> dict[str, Any]:
        """Every key with its value."""
        return _without_gone(_merged(self.parts, yield_to_loop))

    def add(self, changes: Mapping[str, Any], yield_to_loop: Yield) -> Sequence[RunPart]:
        """Record changes (None: the entry is gone); returns the objects that are not needed any more."""
        run, counts = dict(changes), [*self.counts, len(changes)]
        kept = len(self.parts)
        while (merged := _runs_to_merge(counts)) > 1:
            first = kept - sum(map(_part_count, counts[-merged:-1]))
            run = _merged(self.parts[first:kept], yield_to_loop) | run
            kept = first
            del counts[-merged:]
            if not counts:
                run = _without_gone(run)
            counts.append(len(run))
        unneeded = self.parts[kept:]
        self.parts = (*self.parts[:kept], *_parts(run, yield_to_loop))
        self.counts = tuple(counts)
        return unneeded


def _runs_to_merge(counts: Sequence[int]) -> int:
    """How many of the newest runs are merged to one; 1 when none are."""
    size = _size(counts[-1])
    same = 0
    while same < len(counts) and _size(counts[-1 - same]) <= size:
        same += 1
    return same if same >= MERGED_RUNS else 1


def _size(count: int) -> int:
    return count.bit_length() // _SIZE_BITS


def _part_count(count: int) -> int:
    """Parts of a run of ``count`` entries."""
    return -(-count // AT_ONCE)


def _parts(run: dict[str, Any], yield_to_loop: Yield) -> list[RunPart]:
    items = list(run.items())
    parts = []
    for first in range(0, len(items), AT_ONCE):
        if first:
            yield_to_loop()
        parts.append(RunPart(pickle.dumps(dict(items[first : first + AT_ONCE]), protocol=4)))
    return parts


def _merged(parts: Sequence[RunPart], yield_to_loop: Yield) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    read = 0
    for part in parts:
        if read >= AT_ONCE:
            read = 0
            yield_to_loop()
        found = pickle.loads(part.data)
        merged |= found
        read += len(found)
        # A new one has no record yet to be loaded from again.
        part._p_deactivate()
    return merged


def _without_gone(entries: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if value is not None}
