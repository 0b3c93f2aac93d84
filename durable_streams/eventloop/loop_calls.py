"""Calls from other native threads into the thread of the event loop, where the streams live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, ParamSpec, TypeVar

import gevent
from gevent.hub import MAIN_THREAD_IDENT
from gevent.monkey import get_original

# Native ones also where gevent has patched the standard library: a lock of gevent cannot wait in another thread.
_get_ident: Final = get_original("_thread", "get_ident")
_allocate_lock: Final = get_original("_thread", "allocate_lock")

P = ParamSpec("P")
T = TypeVar("T")


class LoopUnavailable(Exception):
    """There is no loop to call into, or it has not taken the call in time; the call is not made."""


class LoopCalls:
    """The door to one event loop; ``bind`` is called in its thread, ``run`` in any."""

    def __init__(self, wait_s_max: float) -> None:
        """``wait_s_max``: seconds until the loop must have begun a call of another thread."""
        self._wait_s_max = wait_s_max
        self._loop: Any = None
        self._thread = 0

    def bind(self) -> None:
        """Calls go to the loop of this thread from now on."""
        self._loop = gevent.get_hub().loop
        self._thread = _get_ident()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``function`` returns or raises; in the loop's thread it is called on the spot, else in a new greenlet.

        Before ``bind`` the main thread counts as the loop's. Raises LoopUnavailable.
        """
        thread = _get_ident()
        if thread == self._thread or (self._loop is None and thread == MAIN_THREAD_IDENT):
            return function(*args, **kwargs)
        if self._loop is None:
            raise LoopUnavailable("the event loop is not known yet: open the streams in its thread first")
        call = _Call(lambda: function(*args, **kwargs))
        self._loop.run_callback_threadsafe(gevent.spawn, call.make)
        return call.result(self._wait_s_max)


class _Call(Generic[T]):
    """One call from another thread. The side that acquires ``_claim`` decides whether it is made."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._claim = _allocate_lock()
        self._begun = _allocate_lock()
        self._done = _allocate_lock()
        self._begun.acquire()
        self._done.acquire()
        self._value: T
        self._error: BaseException | None = None

    def make(self) -> None:
        """In a greenlet of the loop."""
        if not self._claim.acquire(False):
            return
        self._begun.release()
        try:
            self._value = self._function()
        except BaseException as exc:
            self._error = exc
        self._done.release()

    def result(self, wait_s_max: float) -> T:
        """In the calling thread. A call that has begun is awaited to its end: only so its outcome is known."""
        if not self._begun.acquire(True, wait_s_max) and self._claim.acquire(False):
            raise LoopUnavailable(f"the event loop has not taken the call within {wait_s_max:g} s")
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return self._value
