"""Streams in this process's memory: fast, and gone when the process ends.

The payload of a stream is one bytearray, so a message costs its bytes and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice, takewhile

from BTrees.OOBTree import OOTreeSet

from durable_streams.protocol.errors import StreamNotFound
from durable_streams.protocol.state import NO_EXPIRY, StreamState
from durable_streams.storage.contract import (
    NOTHING_LOST,
    Change,
    Lost,
    Storage,
    Unit,
    check_recorded,
)
from durable_streams.storage.deadlines import Deadlines


class InMemoryStorage(Storage):
    """The ``memory`` mode."""

    commits_inline = True
    counts_as_memory = True

    def __init__(self) -> None:
        self._states: dict[str, StreamState] = {}
        self._bytes: dict[str, bytearray] = {}
        """Own bytes by uid."""
        self._names = OOTreeSet()
        self._deadlines = Deadlines()

    def open(self) -> None:
        """Nothing to recover."""

    def close(self) -> None:
        """Nothing to keep: the streams stay readable for as long as the object lives."""

    def known(self, name: str) -> StreamState | None:
        return self._states.get(name)

    def read(self, state: StreamState, start: int, stop: int) -> bytes:
        own = self._bytes.get(state.config.uid)
        if own is None:
            raise StreamNotFound(state.name)
        first = state.config.forked_at
        return bytes(memoryview(own)[start - first : stop - first])

    def commit(self, shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]) -> Lost:
        states = self._states
        for unit in units:
            for change in unit:
                before = change.before
                # The very object that is recorded is the usual case, and every append passes here.
                if before is None or states.get(before.config.name) is not before:
                    check_recorded(states.get(change.name), change)
            for change in unit:
                self._apply(change)
        return NOTHING_LOST

    def _apply(self, change: Change) -> None:
        before, after = change.before, change.after
        if before is None or after is None or before.config is not after.config:
            self._begin_or_end(change)
            if after is None:
                return
        config = after.config
        self._states[config.name] = after
        own = self._bytes[config.uid]
        for data in change.appended:
            own += data
        if after.deleted or config.expiry is not NO_EXPIRY:
            self._deadlines.note(after)

    def _begin_or_end(self, change: Change) -> None:
        before, after = change.before, change.after
        if before is not None and (after is None or change.is_new):
            del self._states[before.config.name]
            del self._bytes[before.config.uid]
        if after is None:
            if before is not None:
                self._names.remove(before.config.name)
        elif after.config.uid not in self._bytes:
            self._bytes[after.config.uid] = bytearray()
            self._names.add(after.config.name)

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        keys = self._names.keys(after, excludemin=True) if after >= prefix else self._names.keys(prefix)
        return list(islice(takewhile(lambda name: name.startswith(prefix), keys), limit))

    def due(self, now: float, limit: int) -> list[str]:
        return self._deadlines.due(now, limit, self.known)

    def figures(self) -> Mapping[str, float]:
        return {"streams": len(self._states)}

    def measure_syncs(self, note: Callable[[float], None]) -> None:
        """Memory has none."""
