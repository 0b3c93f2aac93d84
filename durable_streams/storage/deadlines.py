"""When streams are due, for backends that keep their states in memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from durable_streams.protocol.state import StreamState


class Deadlines:
    """Names in the order in which they are due.

    Touches only move a deadline on, so an entry is left where it is and moved when its old time comes.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._queued: dict[str, float] = {}
        """The one entry of a name that counts; others in the heap are remains."""

    def note(self, state: StreamState) -> None:
        """``state`` is now the recorded one of its stream."""
        due_at = state.due_at
        if due_at is not None and due_at < self._queued.get(state.name, float("inf")):
            self._push(due_at, state.name)

    def due(self, now: float, limit: int, load: Callable[[str], StreamState | None]) -> list[str]:
        """Up to ``limit`` names whose state, as ``load`` gives it, is due at ``now``; asking changes nothing."""
        found: dict[str, float] = {}
        while self._heap and self._heap[0][0] <= now and len(found) < limit:
            queued_at, name = heapq.heappop(self._heap)
            if self._queued.get(name) != queued_at:
                continue
            del self._queued[name]
            state = load(name)
            due_at = state.due_at if state is not None else None
            if due_at is None:
                continue
            if due_at <= now:
                found[name] = due_at
            else:
                self._push(due_at, name)
        for name, due_at in found.items():
            self._push(due_at, name)
        return list(found)

    def _push(self, due_at: float, name: str) -> None:
        self._queued[name] = due_at
        heapq.heappush(self._heap, (due_at, name))
