"""Turns: how long one greenlet works before every other one gets its turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import gevent

TURN_BYTES: Final = 256 * 1024
"""After so many bytes, in or out, a connection yields to the event loop: a fast client never makes it wait."""
_SHORTEST_S: Final = 1e-6
"""The shortest sleep that is a timer."""


def yield_to_loop() -> None:
    """Let every other greenlet run, those included whose socket has become ready meanwhile.

    ``sleep(0)`` runs only greenlets that are ready already: gevent returns from it without a look at the sockets.
    """
    gevent.sleep(_SHORTEST_S)


class LargeBody:
    """A response body that yields to the loop after every TURN_BYTES.

    A client that reads fast keeps its socket writable, and would otherwise hold the loop for the whole body. A server
    that yields by itself sends ``whole`` instead, and saves the copy of every piece.
    """

    __slots__ = ("whole",)

    def __init__(self, whole: bytes) -> None:
        self.whole = whole

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self.whole), TURN_BYTES):
            if start:
                yield_to_loop()
            yield self.whole[start : start + TURN_BYTES]
