"""Windows that reads renew: recorded in time, kept over a stop, and not longer than promised (section 5.1)."""

from __future__ import annotations

import pytest

from durable_streams.protocol.errors import StreamNotFound
from durable_streams.protocol.requests import Create
from durable_streams.protocol.state import Expiry
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage() -> InMemoryStorage:
    return InMemoryStorage()


@pytest.fixture
def store(storage: InMemoryStorage, clock: Clock) -> StreamStore:
    """One stream `a` with a window of 100 seconds, written at 1000."""
    store = StreamStore(storage, Limits(), clock=clock)
    store.open()
    store.create(Create("a", "text/plain", Expiry(ttl_s=100), False, b"x"))
    return store


def read_at(store: StreamStore, clock: Clock, now: float) -> None:
    clock.now = now
    store.touch(store.find("a"))


def recorded_at(storage: InMemoryStorage) -> float:
    state = storage.known("a")
    assert state is not None
    return state.touched_at


def test_a_read_after_an_eighth_of_the_window_is_recorded(
    store: StreamStore, storage: InMemoryStorage, clock: Clock
) -> None:
    read_at(store, clock, 1012.0)
    assert recorded_at(storage) == 1000.0
    read_at(store, clock, 1013.0)
    assert recorded_at(storage) == 1013.0


def test_a_stop_records_what_reads_have_renewed(
    store: StreamStore, storage: InMemoryStorage, clock: Clock
) -> None:
    read_at(store, clock, 1005.0)
    store.close()
    assert recorded_at(storage) == 1005.0


def test_a_renewal_that_cannot_be_recorded_fails_neither_the_read_nor_the_stop(
    store: StreamStore, storage: InMemoryStorage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise OSError("the disk said nothing")

    stopped = []
    monkeypatch.setattr(storage, "commit", broken)
    monkeypatch.setattr(storage, "close", lambda: stopped.append(True))
    read_at(store, clock, 1050.0)
    store.close()
    assert stopped


def test_the_sweeper_does_not_prolong_a_window(
    store: StreamStore, storage: InMemoryStorage, clock: Clock
) -> None:
    read_at(store, clock, 1010.0)
    clock.now = 1105.0
    store.sweep()
    assert recorded_at(storage) == 1010.0
    assert store.find("a").tail == 1
    clock.now = 1110.0
    with pytest.raises(StreamNotFound):
        store.find("a")


def test_a_stream_with_a_live_reader_is_recorded_as_just_read(
    store: StreamStore, storage: InMemoryStorage, clock: Clock
) -> None:
    store.attach(store.find("a"))
    clock.now = 1500.0
    store.sweep()
    assert recorded_at(storage) == 1500.0
    assert store.find("a").tail == 1
