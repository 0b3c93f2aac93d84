"""Measures how late the event loop comes to what is due: everything that holds it up is felt by every client."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

import gevent

from durable_streams.metrics.counting import Histogram

SAMPLE_INTERVAL_S: Final = 0.1
LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds."""
ROUND_SAMPLES: Final = 10


class LoopSampler:
    """A greenlet that sleeps, and notes by how much it was woken too late."""

    def __init__(self, each_round: Callable[[], None]) -> None:
        """``each_round`` is called every second."""
        self.lag = Histogram(LAG_BOUNDS)
        self._each_round = each_round
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def start(self) -> None:
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None

    def _run(self) -> None:
        while True:
            for _ in range(ROUND_SAMPLES):
                due_at = perf_counter() + SAMPLE_INTERVAL_S
                gevent.sleep(SAMPLE_INTERVAL_S)
                self.lag.note(max(0.0, perf_counter() - due_at))
            self._each_round()
