"""Wakes between the processes that share a storage: carried, lost, repeated, and found by the regular look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import gevent
import pytest
from gevent import socket

from durable_streams import service as service_module
from durable_streams.live.follower import Follower
from durable_streams.protocol.requests import Append, Create
from durable_streams.protocol.state import NO_EXPIRY, StreamState
from durable_streams.service import StreamService
from durable_streams.storage.abilities import Shared, Wake
from durable_streams.storage.contract import Change
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.streams.batch import Limits
from durable_streams.streams.wakes import EVERYTHING, Interest, Wakes, wake_of
from durable_streams.worker.client_socket import ClientSocket
from tests.live.shared_storage import SharedMemory, Wire

PATIENCE_S = 180.0


class Recorder:
    """A listener that writes down what it is told."""

    def __init__(self, *watched: str) -> None:
        self.heard: list[str] = []
        self.names = set(watched)
        self.interest = Interest(EVERYTHING)

    def announce(self, name: str) -> None:
        self.heard.append(name)

    def announce_all(self) -> None:
        self.heard.append("*")

    def watched(self) -> Iterable[str]:
        return self.names


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def pair(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StreamService, StreamService]]:
    """Two services over one storage, as two processes would have it; their looks come only when asked for."""
    monkeypatch.setattr(service_module, "LOOK_INTERVAL_S", 3600.0)
    streams = InMemoryStorage()
    first, second = (StreamService(SharedMemory(wire, streams), Limits()) for _ in range(2))
    with gevent.Timeout(PATIENCE_S):
        first.open()
        second.open()
        yield first, second
        first.close()
        second.close()


def create(service: StreamService, name: str = "s") -> StreamState:
    service.store.create(Create(name, "text/plain", NO_EXPIRY, closed=False, body=b""))
    return service.store.find(name)


def append(service: StreamService, data: bytes, *, close: bool = False) -> None:
    service.store.append(Append("s", "text/plain", data, close))


def test_only_a_storage_with_a_relay_is_shared(wire: Wire) -> None:
    assert not isinstance(InMemoryStorage(), Shared)
    assert isinstance(SharedMemory(wire, InMemoryStorage()), Shared)


# -- the value ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["open", "close", "remove"])
def test_a_wake_tells_the_stream_its_tail_and_whether_it_is_over(
    pair: tuple[StreamService, StreamService], wire: Wire, ending: str
) -> None:
    here, _ = pair
    uid = create(here).config.uid
    append(here, b"abc", close=ending == "close")
    if ending == "remove":
        here.store.remove("s")
    expected = [Wake("s", uid, 0, False), Wake("s", uid, 3, ending == "close")]
    if ending == "remove":
        expected.append(Wake("s", uid, 3, True))
    assert wire.carried == expected


def test_all_changes_of_a_batch_are_published_together() -> None:
    published: list[list[Wake]] = []

    class OneProcess:
        def publish(self, wakes: list[Wake]) -> None:
            published.append(wakes)

    wakes = Wakes([])
    wakes.relay = OneProcess()  # type: ignore[assignment]
    store = StreamService(InMemoryStorage(), Limits()).store
    store.open()
    states = []
    for name in ("a", "b"):
        store.create(Create(name, "text/plain", NO_EXPIRY, closed=False, body=b""))
        states.append(store.find(name))
    wakes.publish([Change(None, state) for state in states])
    assert [[wake.name for wake in batch] for batch in published] == [["a", "b"]]


def test_a_listener_is_told_of_what_it_is_interested_in() -> None:
    all_of_it, one, none = Recorder(), Recorder(), Recorder()
    one.interest.names, none.interest.names = {"b": None}, set()
    wakes = Wakes([all_of_it, one, none])
    store = StreamService(InMemoryStorage(), Limits()).store
    store.open()
    for name in ("a", "b"):
        store.create(Create(name, "text/plain", NO_EXPIRY, closed=False, body=b""))
    wakes.publish([Change(None, store.find(name)) for name in ("a", "b")])
    # The interest may change at any time.
    none.interest.names = EVERYTHING
    wakes.publish([Change(store.find("a"), None)])
    assert (all_of_it.heard, one.heard, none.heard) == (["a", "b", "a"], ["b"], ["a"])


# -- through the relay ---------------------------------------------------------------------------------------------


def test_a_change_in_one_process_wakes_a_waiter_in_the_other(
    pair: tuple[StreamService, StreamService],
) -> None:
    here, there = pair
    create(here)
    with there.hub.watch("s") as watch:
        event = watch.event()
        append(here, b"abc")
        assert event.is_set()


class EventReader:
    """A caught-up reader of an event stream, joined to the fan-out of a service."""

    def __init__(self, service: StreamService) -> None:
        self.ours, self.theirs = socket.socketpair()
        follower = Follower(service.store, service.store.find("s"), 0, None)
        while follower.next_event():
            pass
        self.greenlet = gevent.spawn(
            service.fanout.follow, follower, ClientSocket(self.ours, PATIENCE_S), PATIENCE_S
        )
        gevent.sleep(0)

    def receive(self, data: bytes) -> None:
        received = b""
        while data not in received:
            received += self.theirs.recv(1 << 16)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


def test_a_change_in_one_process_is_broadcast_by_the_other(
    pair: tuple[StreamService, StreamService],
) -> None:
    here, there = pair
    create(here)
    reader = EventReader(there)
    append(here, b"abc")
    reader.receive(b"data:abc")
    append(here, b"", close=True)
    assert reader.greenlet.get() is True
    reader.close()


def test_a_stream_that_another_process_replaced_lets_its_readers_go(
    pair: tuple[StreamService, StreamService], wire: Wire
) -> None:
    """The reader's process hears of the new stream only, so nothing but the uid tells that it is another one."""
    here, there = pair
    create(here)
    reader = EventReader(there)
    wire.loses = True
    here.store.remove("s")
    wire.loses = False
    create(here)
    assert reader.greenlet.get() is True
    reader.close()


def test_wakes_that_come_back_or_come_again_wake_nobody_twice(
    pair: tuple[StreamService, StreamService], wire: Wire
) -> None:
    here = pair[0]
    create(here)
    recorders = [Recorder("s"), Recorder("s")]
    for service, recorder in zip(pair, recorders, strict=True):
        service.listeners.append(recorder)
        service.wakes.look(service._newest)
        recorder.heard.clear()
    append(here, b"abc")
    for end in wire.ends:
        end.deliver(wire.carried[-1:])
    assert [recorder.heard for recorder in recorders] == [["s"], ["s"]]


def test_a_reconnected_relay_wakes_everybody(pair: tuple[StreamService, StreamService], wire: Wire) -> None:
    here, there = pair
    create(here)
    reader = EventReader(there)
    with there.hub.watch("s") as watch:
        event = watch.event()
        wire.loses = True
        append(here, b"abc")
        assert not event.is_set()
        wire.reconnect()
        assert event.is_set()
    reader.receive(b"data:abc")
    there.fanout.stop()
    reader.greenlet.join()
    reader.close()


# -- the look ------------------------------------------------------------------------------------------------------


def test_the_look_finds_what_the_relay_has_lost_and_nothing_else(
    pair: tuple[StreamService, StreamService], wire: Wire
) -> None:
    here, there = pair
    for name in ("s", "quiet", "unwatched"):
        create(here, name)
    recorder = Recorder("s", "quiet")
    there.listeners.append(recorder)
    there.wakes.look(there._newest)
    recorder.heard.clear()
    wire.loses = True
    append(here, b"abc")
    for heard in (["s"], ["s"]):
        there.wakes.look(there._newest)
        assert recorder.heard == heard
    here.store.remove("s")
    for heard in (["s", "s"], ["s", "s"]):
        there.wakes.look(there._newest)
        assert recorder.heard == heard


def test_a_stream_that_is_watched_anew_is_announced_once_at_the_first_look() -> None:
    state = StreamService(InMemoryStorage(), Limits()).store
    state.open()
    state.create(Create("s", "text/plain", NO_EXPIRY, closed=False, body=b""))
    recorder = Recorder("s")
    wakes = Wakes([recorder])
    for names, heard in (({"s"}, 1), ({"s"}, 1), (set(), 1), ({"s"}, 2)):
        recorder.names = names
        wakes.look(lambda asked: {name: state.find(name) for name in asked})
        assert len(recorder.heard) == heard


def test_a_change_during_the_look_is_not_forgotten() -> None:
    """The answer of ``find`` may be older than a wake that came while it was on its way."""
    recorder = Recorder("s")
    wakes = Wakes([recorder])
    store = StreamService(InMemoryStorage(), Limits()).store
    store.open()
    store.create(Create("s", "text/plain", NO_EXPIRY, closed=False, body=b""))
    old = store.find("s")
    store.append(Append("s", "text/plain", b"abc"))
    new = store.find("s")

    def find_slowly(names: object) -> dict[str, StreamState | None]:
        wakes.deliver([wake_of("s", new)])
        return {"s": old}

    wakes.look(find_slowly)
    told = len(recorder.heard)
    wakes.look(lambda names: {"s": new})
    assert len(recorder.heard) == told + 1


def test_a_look_that_fails_is_followed_by_the_next(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "LOOK_INTERVAL_S", 0.001)
    service = StreamService(SharedMemory(wire, InMemoryStorage()), Limits())
    looks: list[int] = []
    enough = gevent.event.Event()

    def look(find: object) -> None:
        looks.append(1)
        if len(looks) == 3:
            enough.set()
        raise RuntimeError("the database does not answer")

    monkeypatch.setattr(service.wakes, "look", look)
    with gevent.Timeout(PATIENCE_S):
        service.open()
        enough.wait()
        service.close()


def test_a_storage_of_one_process_is_not_looked_at() -> None:
    service = StreamService(InMemoryStorage(), Limits())
    service.open()
    assert service.wakes.relay is None
    assert len(service._background) == 1
    service.close()
