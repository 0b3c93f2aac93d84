"""Where calls that wait for the disk are made: native threads beside the event loop, by way of gevent's thread pool.

A caller that holds locks while it waits asks for `waiting_is_safe`: in a process that gevent has not patched locks are
native ones, and a greenlet that leaves while it holds one could stop the whole loop.
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


def waiting_is_safe() -> bool:
    """Whether locks are ones that a greenlet may hold while others run."""
    return bool(is_module_patched("threading"))


class Threads:
    """At most ``threads_max`` of them; made after the fork, by the process that uses them.

    With ``beside_loop`` False there are none, and every call is made on the spot.
    """

    def __init__(self, threads_max: int, *, beside_loop: bool = True) -> None:
        self._pool = ThreadPool(threads_max) if beside_loop else None

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` in a thread and wait for it; other greenlets go on meanwhile."""
        return self.run_for(_forget, function, *args, **kwargs)

    def run_for(
        self, abandoned: Callable[[T], None], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same; when the waiting greenlet is killed, ``abandoned`` gets the value as soon as there is one."""
        if self._pool is None:
            return function(*args, **kwargs)
        # An exception that reaches the pool is printed by it, so it is brought back as a value.
        job = self._pool.spawn(_caught, function, args, kwargs)
        try:
            value, error = job.get()
        except BaseException:
            job.rawlink(lambda done: _hand_over(done.value, abandoned))
            raise
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]

    def yield_to_loop(self) -> None:
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


def _forget(value: Any) -> None:
    """Nothing to be done about it."""


def _hand_over(outcome: tuple[Any, BaseException | None], abandoned: Callable[[Any], None]) -> None:
    value, error = outcome
    if error is None:
        abandoned(value)


def run_here(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for calls that do not wait."""
    return function(*args, **kwargs)
