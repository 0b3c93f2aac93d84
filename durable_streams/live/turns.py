"""Long work beside the loop: big bodies in pieces with a turn for the others, heavy functions in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import gevent

PIECE_BYTES = 256 * 1024
_LOOK_AT_SOCKETS_S = 1e-6

T = TypeVar("T")


def give_turn() -> None:
    """Let everybody else go on, those included whose socket has become ready meanwhile.

    ``sleep(0)`` lets only those go on that are ready already: gevent then returns here without a look at the sockets.
    """
    gevent.sleep(_LOOK_AT_SOCKETS_S)


def in_pieces(body: bytes) -> Iterator[bytes]:
    """``body`` in pieces of PIECE_BYTES, with a turn for everybody else between two.

    A client that reads fast keeps its socket writable, and would otherwise hold the loop for the whole body.
    """
    for start in range(0, len(body), PIECE_BYTES):
        if start:
            give_turn()
        yield body[start : start + PIECE_BYTES]


def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """What ``function`` returns, computed in gevent's thread pool while other greenlets run."""
    result: T = gevent.get_hub().threadpool.apply(function, arguments)
    return result
