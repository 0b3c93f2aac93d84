"""Native threads beside the event loop, through gevent's thread pool: for calls that wait for the disk or compute long.

A caller that holds locks while it waits asks for `waiting_is_safe`: in a process that gevent has not patched, locks are
native ones, and a greenlet that switches while it holds one could stop the whole loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import gevent
from gevent.monkey import is_module_patched
from gevent.threadpool import ThreadPool

from durable_streams.eventloop.turns import yield_to_loop

P = ParamSpec("P")
T = TypeVar("T")


def waiting_is_safe() -> bool:
    """Whether a greenlet may hold a lock while others run."""
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
        """Yield in the middle of a long computation, unless there is no loop to yield to."""
        if self._pool is not None:
            yield_to_loop()

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


def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``function`` returns, computed in gevent's own thread pool while other greenlets run."""
    result: T = gevent.get_hub().threadpool.apply(function, args, kwargs)
    return result
