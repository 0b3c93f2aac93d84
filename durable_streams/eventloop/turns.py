"""Turns: how long one greenlet works before every other one gets its turn, and the bodies that give them."""

from __future__ import annotations

import errno
from collections.abc import Generator, Iterator
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


class StreamedBody:
    """A response body that is read piece by piece while it is sent, and yields to the loop after each one.

    A server that yields by itself sends ``pieces`` instead. Both are to be closed, as WSGI has it.
    """

    __slots__ = ("pieces",)

    def __init__(self, pieces: Generator[bytes]) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            yield piece
            yield_to_loop()

    def close(self) -> None:
        self.pieces.close()


class CutShort(ConnectionResetError):
    """Raised by a body whose rest has been lost: the connection must end short of the response's length.

    Servers take it for a client that has gone, and close the connection without a traceback.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ECONNRESET, reason)
