"""Windows that reads renew: recorded in time, kept over a stop, and not longer than promised (section 5.1)."""

from __future__ import annotations

import math

import pytest

from durable_streams.protocol.errors import StreamNotFound, Unavailable
from durable_streams.protocol.requests import Append, Create
from durable_streams.protocol.state import Expiry, StreamState
from durable_streams.storage.contract import Change
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore
from durable_streams.streams.touches import FORGOTTEN_AT_ONCE, Touches
from tests.clock import Clock
from tests.protocol.states import stream


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


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


def test_a_stop_records_what_reads_have_touched(
    store: StreamStore, storage: InMemoryStorage, clock: Clock
) -> None:
    read_at(store, clock, 1005.0)
    store.close()
    assert recorded_at(storage) == 1005.0


def test_a_touch_that_cannot_be_recorded_fails_neither_the_read_nor_the_stop(
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


# -- windows that live readers hold ---------------------------------------------------------------------------------


def test_a_window_that_a_live_reader_holds_is_recorded_each_eighth(
    store: StreamStore, storage: InMemoryStorage, clock: Clock
) -> None:
    """Other processes, and the next one after a crash, know of the reader by that alone."""
    store.attach(store.find("a"))
    clock.now = 1012.0
    assert store.record_held() == 1012.5
    assert recorded_at(storage) == 1000.0
    for now in (1012.5, 1030.0, 1042.5):
        clock.now = now
        assert store.record_held() == now + 12.5
        assert recorded_at(storage) == now
    store.detach(store.find("a"))
    clock.now = 1055.0
    assert store.record_held() == math.inf
    assert recorded_at(storage) == 1042.5


def test_what_a_write_has_recorded_is_not_recorded_again(
    store: StreamStore, storage: InMemoryStorage, clock: Clock
) -> None:
    store.attach(store.find("a"))
    clock.now = 1012.0
    store.append(Append("a", "text/plain", b"y"))
    revision = store.find("a").revision
    clock.now = 1012.5
    assert store.record_held() == 1024.5
    assert store.find("a").revision == revision


def test_long_windows_are_checked_every_minute(store: StreamStore, clock: Clock) -> None:
    """So that a stream whose reader is gone is not remembered for an eighth of a week."""
    store.create(Create("b", "text/plain", Expiry(ttl_s=7 * 86400), False, b""))
    store.attach(store.find("b"))
    assert store.record_held() == 1060.0
    store.detach(store.find("b"))
    store.remove("b")
    clock.now = 1060.0
    assert store.record_held() == math.inf


def test_a_held_stream_that_cannot_be_found_now_is_checked_again(
    store: StreamStore, storage: InMemoryStorage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(names: object) -> object:
        raise Unavailable("no network")

    store.attach(store.find("a"))
    clock.now = 1020.0
    with monkeypatch.context() as broken:
        broken.setattr(storage, "find", unavailable)
        assert store.record_held() == 1080.0
    clock.now = 1080.0
    store.record_held()
    assert recorded_at(storage) == 1080.0


# -- of a storage that is shared ------------------------------------------------------------------------------------


def state(touched_at: float, ttl_s: int = 100) -> StreamState:
    return stream(expiry=Expiry(ttl_s=ttl_s), touched_at=touched_at)


@pytest.mark.parametrize(
    ("now", "shared", "seen_at"),
    [
        (1099.9, True, 1000.0),
        (1100.0, False, 1000.0),
        (1100.0, True, 1012.5),
        (1112.4, True, 1012.5),
        # Nobody has a touch that is not recorded and would help.
        (1112.5, True, 1000.0),
    ],
)
def test_a_touch_that_another_process_may_have_counts_where_it_decides(
    now: float, shared: bool, seen_at: float
) -> None:
    """It is not seen where it does not: what is seen may be recorded with another change."""
    assert Touches(shared).see(state(1000.0), now).touched_at == seen_at


def test_what_is_known_here_counts_when_it_is_later() -> None:
    touches = Touches(shared=True)
    touches.touch(state(1000.0), 1030.0)
    assert touches.see(state(1000.0), 1050.0).touched_at == 1030.0
    assert touches.see(state(1000.0), 1105.0).touched_at == 1030.0
    assert touches.see(state(1000.0), 1029.0).touched_at == 1029.0
    touches.settle(Change(state(1000.0), state(1030.0)))
    assert touches.names() == []


def test_touches_of_streams_that_another_process_has_removed_are_forgotten() -> None:
    touches = Touches(shared=True)
    for number in range(1000):
        touches.touch(stream(name=f"s{number}", expiry=Expiry(ttl_s=100), touched_at=1000.0), 1000.0 + number)
    for _ in range(1000 // FORGOTTEN_AT_ONCE + 1):
        touches.forget(1500.0)
    assert len(touches.names()) == 599
