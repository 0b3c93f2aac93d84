"""When each subscription is to be looked at by itself: one heap of times, the earliest first."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from durable_streams.subscriptions.tracked import Tracked


class Timers:
    """Times are seconds since 1970. A subscription may stand in the heap more than once; its earliest time counts."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Tracked]] = []
        self._count = 0
        """Of all that were ever set: it orders equal times."""

    @property
    def next_at(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def set(self, tracked: Tracked, at: float) -> None:
        """Unless it is due earlier already."""
        if tracked.timer_at is None or at < tracked.timer_at:
            tracked.timer_at = at
            self._count += 1
            heapq.heappush(self._heap, (at, self._count, tracked))

    def take_due(self, now: float) -> Iterator[Tracked]:
        """Those whose time has come, taken out of the heap."""
        while self._heap and self._heap[0][0] <= now:
            at, _, tracked = heapq.heappop(self._heap)
            if tracked.timer_at == at:
                tracked.timer_at = None
            yield tracked
