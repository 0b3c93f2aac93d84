"""The life of a store in a serving process: opened once, ready or not, stopped in order, closed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import gevent
import pytest

from durable_streams.protocol.errors import Unavailable
from durable_streams.protocol.requests import Append, Create
from durable_streams.protocol.state import NO_EXPIRY, StreamState
from durable_streams.service import StreamService
from durable_streams.storage.contract import Lost, Unit
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.streams.batch import Limits

PATIENCE_S = 180.0


class Watched(InMemoryStorage):
    """Memory that writes down when it is opened and closed, and can refuse or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.refuses_to_open = False
        self.is_broken = False

    @property
    def failed(self) -> bool:
        return self.is_broken

    def open(self) -> None:
        self.said.append("open")
        if self.refuses_to_open:
            raise Unavailable("owned by somebody else")

    def close(self) -> None:
        self.said.append("close")

    def commit(self, shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]) -> Lost:
        self.said.append("commit")
        return super().commit(shard, units, rests_on)


@pytest.fixture
def storage() -> Watched:
    return Watched()


@pytest.fixture
def service(storage: Watched) -> StreamService:
    return StreamService(storage, Limits())


def test_a_service_is_ready_between_its_opening_and_its_stop(service: StreamService) -> None:
    told: list[bool] = []
    service.on_ready.append(told.append)
    assert not service.is_ready
    service.open()
    assert service.is_ready
    service.stop_live()
    assert not service.is_ready
    service.close()
    assert not service.is_ready
    assert told == [True, False]


def test_opening_and_closing_twice_is_once(service: StreamService, storage: Watched) -> None:
    for _ in range(2):
        service.open()
    for _ in range(2):
        service.close()
    service.open()
    assert storage.said == ["open", "close"]
    assert not service.is_ready


def test_a_service_that_was_never_opened_can_be_closed(service: StreamService, storage: Watched) -> None:
    service.close()
    assert storage.said == []


def test_a_storage_that_does_not_open_may_be_tried_again(service: StreamService, storage: Watched) -> None:
    storage.refuses_to_open = True
    with pytest.raises(Unavailable):
        service.open()
    assert not service.is_ready
    storage.refuses_to_open = False
    service.open()
    assert service.is_ready
    service.close()


def test_a_storage_that_has_failed_is_not_ready(service: StreamService, storage: Watched) -> None:
    service.open()
    storage.is_broken = True
    assert not service.is_ready
    service.close()


def test_the_stop_ends_waits_before_the_storage_is_closed(service: StreamService, storage: Watched) -> None:
    service.open()
    service.store.create(Create("s", "text/plain", NO_EXPIRY, False, b""))

    def wait_and_write() -> None:
        with service.hub.watch("s") as watch:
            watch.event().wait()
        storage.said.append("woken")
        service.store.append(Append("s", "text/plain", b"last words"))

    waiting = gevent.spawn(wait_and_write)
    gevent.sleep(0)
    service.stop_live()
    with gevent.Timeout(PATIENCE_S):
        waiting.join()
    service.close()
    assert waiting.successful()
    assert storage.said == ["open", "commit", "woken", "commit", "close"]


def test_a_change_reaches_those_who_wait_only_when_it_is_kept(
    service: StreamService, storage: Watched
) -> None:
    service.open()
    heard: list[str] = []
    service.hub.announce = lambda name: heard.append(f"{storage.said[-1]} {name}")  # type: ignore[method-assign]
    with service.hub.watch("s"):
        service.store.create(Create("s", "text/plain", NO_EXPIRY, False, b""))
    assert heard == ["commit s"]
    service.close()
