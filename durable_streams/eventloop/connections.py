"""How many connections this process serves now: the worker that knows it says so, and others may ask."""

from __future__ import annotations

from collections.abc import Callable

_counters: list[Callable[[], int]] = []


def count_by(counter: Callable[[], int]) -> None:
    """From now on ``counter()`` tells how many there are."""
    _counters[:] = [counter]


def connections() -> int | None:
    """None under a worker that does not tell."""
    return _counters[0]() if _counters else None
