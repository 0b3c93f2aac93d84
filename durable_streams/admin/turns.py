"""Long work in short turns: the loop goes on after every few milliseconds of it."""

from __future__ import annotations

from time import monotonic
from typing import Final

from durable_streams.eventloop.turns import yield_to_loop

TURN_S: Final = 0.004


class Turns:
    """Call it after each small step; it yields to the loop when the turn is over."""

    def __init__(self) -> None:
        self._until = monotonic() + TURN_S

    def __call__(self) -> None:
        if monotonic() >= self._until:
            yield_to_loop()
            self._until = monotonic() + TURN_S
