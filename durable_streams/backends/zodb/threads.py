"""Where calls that wait for the disk are made: native threads beside the event loop, by way of gevent's thread pool.

In a process that gevent has not patched ZODB's locks are native ones, and a greenlet that leaves while it holds one
could stop the whole loop; there the calls are made on the spot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

import gevent
from gevent.monkey import is_module_patched
from gevent.threadpool import ThreadPool

SHORTEST_S: Final = 1e-6
"""A sleep that is a timer."""
P = ParamSpec("P")
T = TypeVar("T")


def is_patched() -> bool:
    return bool(is_module_patched("threading"))


class Threads:
    """At most ``threads_max`` of them; made after the fork, by the process that uses them."""

    def __init__(self, threads_max: int) -> None:
        self._pool = ThreadPool(threads_max) if is_patched() else None

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` in a thread and wait for it; other greenlets go on meanwhile."""
        if self._pool is None:
            return function(*args, **kwargs)
        # An exception that reaches the pool is printed by it, so it is brought back as a value.
        value, error = self._pool.apply(_caught, (function, args, kwargs))
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]

    def give_turn(self) -> None:
        """Let others go on in the middle of a long calculation, and the loop look at its sockets and timers."""
        if self._pool is not None:
            # A sleep of 0 comes back before the loop has looked: it does so once in 50 such turns only.
            gevent.sleep(SHORTEST_S)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.kill()


def _caught(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    try:
        return function(*args, **kwargs), None
    except BaseException as exc:
        return None, exc
