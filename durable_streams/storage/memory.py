"""Streams in this process's memory: fast, and gone when it ends.

Payload is one bytearray a stream, so a message costs its bytes and nothing more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from durable_streams.protocol.errors import StreamNotFound
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change, Storage
from durable_streams.storage.deadlines import Deadlines


class InMemoryStorage(Storage):
    """The ``memory`` mode."""

    commits_inline = True
    counts_as_memory = True

    def __init__(self) -> None:
        self._states: dict[str, StreamState] = {}
        self._bytes: dict[str, bytearray] = {}
        """Own bytes by uid."""
        self._deadlines = Deadlines()

    def open(self) -> None:
        """Nothing to recover."""

    def close(self) -> None:
        """Nothing to keep: the streams stay readable for as long as the object lives."""

    def load(self, name: str) -> StreamState | None:
        return self._states.get(name)

    def read(self, state: StreamState, start: int, stop: int) -> bytes:
        own = self._bytes.get(state.config.uid)
        if own is None:
            raise StreamNotFound(state.name)
        base = state.config.forked_at
        return bytes(memoryview(own)[start - base : stop - base])

    def commit(self, shard: int, changes: Sequence[Change]) -> None:
        for change in changes:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        before, after = change.before, change.after
        if before is not None and (after is None or change.is_new):
            del self._states[before.config.name]
            del self._bytes[before.config.uid]
        if after is None:
            return
        config = after.config
        self._states[config.name] = after
        own = self._bytes.get(config.uid)
        if own is None:
            own = self._bytes[config.uid] = bytearray()
        for data in change.appended:
            own += data
        self._deadlines.note(after)

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        matching = sorted(name for name in self._states if name.startswith(prefix))
        first = bisect_right(matching, after) if after else 0
        return matching[first : first + limit]

    def due(self, now: float, limit: int) -> list[str]:
        return self._deadlines.due(now, limit, self.load)
