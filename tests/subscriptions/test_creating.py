"""Making a subscription while the streams around it change (R-19), and what an unfinished one leaves behind."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from durable_streams.protocol.errors import Unavailable
from durable_streams.subscriptions.linked_streams import LinkedStreams
from tests.subscriptions.conftest import OpenSubscribed
from tests.subscriptions.driving import Subscribed, error_of
from tests.web.driving import Server

PULL: dict[str, Any] = {
    "type": "pull-wake",
    "pattern": "events/*",
    "streams": ["manual/a"],
    "wake_stream": "wake/pool",
}


def while_backfilling(server: Subscribed, monkeypatch: pytest.MonkeyPatch, happen: dict[int, Any]) -> Any:
    """The answer to a PUT; ``happen`` is done before the n-th look at streams, from 0."""
    looks = iter(range(1000))
    current_all = LinkedStreams.current_all

    def look(self: LinkedStreams, paths: Any) -> Any:
        happen.get(next(looks), lambda: None)()
        gevent.sleep(0)
        found = current_all(self, paths)
        gevent.sleep(0)
        return found

    monkeypatch.setattr(LinkedStreams, "current_all", look)
    response = server.control("PUT", "sub-1", document=PULL)
    monkeypatch.setattr(LinkedStreams, "current_all", current_all)
    return response


@pytest.mark.parametrize("at", range(5))
def test_r19_an_append_during_the_backfill_is_pending_or_before_it(
    server: Subscribed, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """However it falls: what was appended after the stream was looked at is pending, and nothing is linked beyond."""
    server.create("wake/pool")
    for number in range(1200):
        server.create(f"events/{number:04}")
    server.create("manual/a")
    tails: dict[str, str] = {}

    def append() -> None:
        for path in ("events/0000", "events/1199", "manual/a"):
            tails[path] = server.append(path, "during")
        tails["events/new"] = server.create("events/new", "during")

    response = while_backfilling(server, monkeypatch, {at: append})
    assert response.status_int == 201
    server.settle()
    shown = {link["path"]: link["acked_offset"] for link in server.shown()["streams"]}
    pending = set(server.tracked().behind)
    for path, tail in tails.items():
        assert (path in pending) is (shown[path] != tail), path
    if at == 0:
        # It was linked before it was looked at, so the append lies before the cursor.
        assert "manual/a" not in pending
    for path, tail in tails.items():
        again = server.append(path, "after")
        server.settle()
        assert path in server.tracked().behind
        assert again > tail


def test_r19_two_puts_of_one_id_at_once_make_one(server: Subscribed) -> None:
    server.create("wake/pool")
    for number in range(800):
        server.create(f"events/{number}")
    server.settle()
    puts = [gevent.spawn(server.control, "PUT", "sub-1", document=PULL) for _ in range(5)]
    other = gevent.spawn(server.control, "PUT", "sub-1", document=PULL | {"lease_ttl_ms": 1000})
    gevent.joinall([*puts, other], timeout=180)
    assert sorted(put.value.status_int for put in puts) == [200, 200, 200, 200, 201]
    assert error_of(other.value) == (409, "SUBSCRIPTION_ALREADY_EXISTS")
    assert len(server.registry) == 1


def test_a_get_of_one_that_is_being_made_waits_for_it(server: Subscribed) -> None:
    server.create("wake/pool")
    for number in range(800):
        server.create(f"events/{number}")
    server.settle()
    put = gevent.spawn(server.control, "PUT", "sub-1", document=PULL)
    gevent.sleep(0)
    got = gevent.spawn(server.control, "GET", "sub-1")
    gevent.joinall([put, got], timeout=180)
    assert (put.value.status_int, got.value.status_int) == (201, 200)


@pytest.mark.parametrize("at", range(3))
def test_a_subscription_that_could_not_be_made_leaves_nothing(
    server: Subscribed, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    server.create("wake/pool")
    for number in range(1200):
        server.create(f"events/{number:04}")

    def fail() -> None:
        raise Unavailable("out of reach")

    assert error_of(while_backfilling(server, monkeypatch, {at: fail})) == (503, "UNAVAILABLE")
    assert len(server.registry) == 0
    assert not server.registry.index.may_wake("events/0000")
    assert not server.registry.index.may_wake("manual/a")
    assert server.store.histories.keys("subscriptions/") == []
    assert server.control("PUT", "sub-1", document=PULL).status_int == 201


def test_a_subscription_that_is_deleted_while_its_streams_are_looked_at(server: Subscribed) -> None:
    server.create("wake/pool")
    server.subscribe(streams=[f"manual/{number}" for number in range(2000)])
    server.settle()
    got = gevent.spawn(server.control, "GET", "sub-1")
    gevent.sleep(0)
    assert server.control("DELETE", "sub-1").status_int == 204
    got.join(timeout=180)
    assert got.value.status_int in (200, 404)
    server.settle()
    assert len(server.registry) == 0


def test_nothing_listens_for_wakes_that_nobody_asked_for(open_server: OpenSubscribed) -> None:
    server: Server = open_server()
    assert isinstance(server, Subscribed)
    server.create("events/a", 1)
    server.settle()
    registry = server.registry
    assert not registry.inbox.put("events/a")
    assert not registry.inbox.put("__ds/subscriptions/x")
    assert len(registry.inbox) == 0
    # Neither are keys made, nor a client: nothing but what was asked for is recorded.
    assert server.store.storage.names("", "", 10) == ["events/a"]
    assert server.subscriptions._made_webhooks is None
