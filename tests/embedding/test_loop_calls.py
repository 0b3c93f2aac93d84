"""Calls from native threads into the event loop: made once, in a greenlet, or not at all."""

from __future__ import annotations

from threading import Thread, get_ident
from typing import Any

import gevent
import pytest
from gevent.event import Event

from durable_streams.eventloop.loop_calls import LoopCalls, LoopUnavailable, _Call

PATIENCE_S = 180.0


@pytest.fixture
def calls() -> LoopCalls:
    calls = LoopCalls(PATIENCE_S)
    calls.bind()
    return calls


class Caller:
    """A native thread that makes one call; the loop runs while it is awaited."""

    def __init__(self, calls: LoopCalls, function: Any, *args: Any) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._done = gevent.get_hub().loop.async_()
        self._ended = Event()
        self._done.start(self._ended.set)
        self._call = (calls, function, args)
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        calls, function, args = self._call
        try:
            self.value = calls.run(function, *args)
        except BaseException as exc:
            self.error = exc
        self._done.send()

    def join(self) -> Caller:
        assert self._ended.wait(PATIENCE_S)
        self._thread.join()
        self._done.close()
        return self


def test_the_loops_own_thread_calls_on_the_spot(calls: LoopCalls) -> None:
    assert calls.run(gevent.getcurrent) is gevent.getcurrent()


def test_another_thread_gets_the_value_from_a_greenlet_of_the_loop(calls: LoopCalls) -> None:
    def where(number: int) -> tuple[int, int, bool]:
        gevent.sleep(0)
        return number, get_ident(), isinstance(gevent.getcurrent(), gevent.Greenlet)

    assert Caller(calls, where, 7).join().value == (7, get_ident(), True)


def test_another_thread_gets_the_error(calls: LoopCalls) -> None:
    def fail() -> None:
        raise KeyError("reason")

    error = Caller(calls, fail).join().error
    assert isinstance(error, KeyError)
    assert error.args == ("reason",)


def test_calls_of_many_threads_are_made_once_each(calls: LoopCalls) -> None:
    made: list[int] = []
    callers = [Caller(calls, made.append, number) for number in range(20)]
    for caller in callers:
        caller.join()
    assert sorted(made) == list(range(20))


def test_a_call_that_waits_holds_up_no_other(calls: LoopCalls) -> None:
    event = Event()
    waiting = Caller(calls, event.wait, PATIENCE_S)
    assert Caller(calls, lambda: "answer").join().value == "answer"
    event.set()
    assert waiting.join().value is True


def test_a_call_that_the_loop_does_not_take_in_time_is_never_made() -> None:
    calls = LoopCalls(0.01)
    calls.bind()
    made: list[bool] = []
    caller = Caller(calls, made.append, True)
    # The loop does not run while this thread waits for the other.
    caller._thread.join()
    caller.join()
    gevent.sleep(0.001)
    assert isinstance(caller.error, LoopUnavailable)
    assert made == []


def test_a_call_that_has_begun_is_awaited_however_long_it_takes() -> None:
    begun, event = Event(), Event()

    def wait() -> bool:
        begun.set()
        return event.wait(PATIENCE_S)

    call = _Call(wait)
    gevent.spawn(call.make)
    assert begun.wait(PATIENCE_S)
    result = gevent.get_hub().threadpool.spawn(call.result, 0.0)
    gevent.sleep(0.001)
    event.set()
    assert result.get() is True


def test_before_the_loop_is_known_only_the_main_thread_may_call() -> None:
    calls = LoopCalls(PATIENCE_S)
    assert calls.run(lambda: "here") == "here"
    assert isinstance(Caller(calls, lambda: "there").join().error, LoopUnavailable)
