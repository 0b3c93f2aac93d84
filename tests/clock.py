"""A clock for tests that decide what time it is."""

from __future__ import annotations


class Clock:
    """Seconds since 1970 that pass when a test says so."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
