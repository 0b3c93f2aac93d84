"""A touch that is recorded while a shared storage is asked: the answer is from before it, and the stream lives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import gevent

from durable_streams.storage.contract import Found
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore
from tests.clock import Clock
from tests.contract.driving import SECONDS_MAX, START, create_request
from tests.contract.shared_storage import SharedStorage


class LateAnswers(SharedStorage):
    """What it answers is as of the question; the answer arrives when ``is_time`` says so."""

    def __init__(self) -> None:
        super().__init__()
        self.is_time: Callable[[], bool] = lambda: True

    def find(self, names: Iterable[str]) -> Mapping[str, Found]:
        asked = list(names)
        found = {name: self.database.state(name) for name in asked}
        while not self.is_time():
            gevent.sleep(0)
        return dict(found)


def test_a_touch_that_is_recorded_while_the_question_is_under_way_counts() -> None:
    storage, clock = LateAnswers(), Clock(START)
    store = StreamStore(storage, Limits(), clock=clock)
    store.open()
    try:
        store.create(create_request(ttl=10))
        clock.now += 9
        state = store.find("s")
        store.touch(state)
        clock.now += 3
        recorded: list[float] = []
        storage.before_commit = lambda: recorded.append(clock.now)
        storage.is_time = lambda: bool(recorded) and not store._pipeline._touches.names()
        with gevent.Timeout(SECONDS_MAX):
            assert store.find("s").config.uid == state.config.uid
    finally:
        store.close()
