"""Where calls that wait for the disk are made: native threads beside the event loop, by way of gevent's thread pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from gevent.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """At most ``threads_max`` of them; made after the fork, by the process that uses them."""

    def __init__(self, threads_max: int) -> None:
        self._pool = ThreadPool(threads_max)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` in a thread and wait for it; other greenlets go on meanwhile."""
        return self.run_for(_forget, function, *args, **kwargs)

    def run_for(
        self, abandoned: Callable[[T], None], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same; when the waiting greenlet is killed, ``abandoned`` gets the value as soon as there is one."""
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

    def close(self) -> None:
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
