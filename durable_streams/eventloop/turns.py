"""Long work beside the loop: big bodies in pieces with a turn for the others, heavy functions in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import gevent

PIECE_BYTES = 256 * 1024
_LOOK_AT_SOCKETS_S = 1e-6

T = TypeVar("T")


def yield_to_loop() -> None:
    """Let everybody else go on, those included whose socket has become ready meanwhile.

    ``sleep(0)`` lets only those go on that are ready already: gevent then returns here without a look at the sockets.
    """
    gevent.sleep(_LOOK_AT_SOCKETS_S)


class LargeBody:
    """A body that is sent in pieces of PIECE_BYTES, with a turn for everybody else between two.

    A client that reads fast keeps its socket writable, and would otherwise hold the loop for the whole body. A server
    that gives such turns by itself takes ``whole`` instead, and does without a copy of every piece.
    """

    __slots__ = ("whole",)

    def __init__(self, whole: bytes) -> None:
        self.whole = whole

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self.whole), PIECE_BYTES):
            if start:
                yield_to_loop()
            yield self.whole[start : start + PIECE_BYTES]


def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """What ``function`` returns, computed in gevent's thread pool while other greenlets run."""
    result: T = gevent.get_hub().threadpool.apply(function, arguments)
    return result
