"""Several processes over one storage: any of them answers, one of them delivers, and another takes over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from durable_streams.subscriptions.dispatching import dispatcher
from durable_streams.subscriptions.service import LEASE_S
from tests.contract.shared_storage import Database
from tests.subscriptions.driving import Subscribed, delivery, error_of, until
from tests.subscriptions.receiver import Receiver, answer
from tests.subscriptions.relayed_storage import Bus, RelayedStorage

TAKEN = answer({})


class Cluster:
    """Servers over one database."""

    def __init__(self) -> None:
        self.database, self.bus = Database(), Bus()
        self.servers: list[Subscribed] = []

    def start(self) -> Subscribed:
        server = Subscribed(RelayedStorage(self.database, self.bus))
        server.service.open()
        until(server.dispatcher.loaded.is_set, "loading")
        self.servers.append(server)
        return server

    def settle(self) -> None:
        for server in self.servers:
            server.settle()

    def leader(self) -> Subscribed:
        return until(lambda: next((s for s in self.servers if s.dispatcher._was_leading), None), "a leader")

    def kill(self, server: Subscribed) -> None:
        """As when its process dies: nothing is said, and nothing given back."""
        self.servers.remove(server)
        assert server.subscriptions._greenlet is not None
        server.subscriptions._greenlet.kill()
        for crew in (server.dispatcher._crews.deliveries, server.dispatcher._crews.steps):
            crew.end(0.0)
        server.subscriptions._greenlet = None
        server.service.listeners.clear()
        server.close()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(dispatcher, "ASK_S", 0.05)
    cluster = Cluster()
    yield cluster
    for server in cluster.servers:
        server.close()


@pytest.fixture
def two(cluster: Cluster) -> tuple[Subscribed, Subscribed]:
    """The one that dispatches, and the other one."""
    first = cluster.start()
    assert cluster.leader() is first
    return first, cluster.start()


def test_what_one_makes_the_other_knows(two: tuple[Subscribed, Subscribed]) -> None:
    one, other = two
    made = other.subscribe("sub-1", streams=["manual/a"], pattern="events/*")
    assert one.shown() == made
    one.control("POST", "sub-1", "/streams", {"streams": ["manual/b"]})
    assert [link["path"] for link in other.shown()["streams"]] == ["manual/a", "manual/b"]
    config = {"type": "pull-wake", "wake_stream": "wake/pool", "streams": ["manual/a"], "pattern": "events/*"}
    assert one.control("PUT", "sub-1", document=config).status_int == 200
    assert error_of(one.control("PUT", "sub-1", document=config | {"lease_ttl_ms": 5000}))[0] == 409
    other.control("DELETE", "sub-1")
    assert error_of(one.control("GET", "sub-1")) == (404, "SUBSCRIPTION_NOT_FOUND")


def test_an_append_at_one_is_delivered_by_the_one_that_dispatches(
    cluster: Cluster, two: tuple[Subscribed, Subscribed]
) -> None:
    _, other = two
    with Receiver() as receiver:
        other.subscribe(webhook={"url": receiver.url})
        for number in range(10):
            tail = other.create("events/a", 0) if not number else other.append("events/a", number)
            told = delivery(receiver).document
            assert (told["generation"], told["streams"][0]["tail_offset"]) == (number + 1, tail)
            cluster.settle()
        assert receiver.all_so_far() == []


def test_a_callback_may_come_to_any(two: tuple[Subscribed, Subscribed]) -> None:
    _, other = two
    with Receiver(TAKEN) as receiver:
        other.subscribe(webhook={"url": receiver.url})
        other.create("events/a", 1)
        told = delivery(receiver).document
        assert other.ack(told, acks=[], done=False, action="/callback").status_int == 200
        assert other.ack(told, action="/callback").json == {"ok": True, "next_wake": False}
        assert error_of(other.ack(told, action="/callback")) == (409, "FENCED")


def test_two_claims_at_two_servers_and_one_gets_it(two: tuple[Subscribed, Subscribed]) -> None:
    import gevent

    one, other = two
    one.subscribe()
    other.create("events/a", 1)
    claims = [gevent.spawn(s.control, "POST", "sub-1", "/claim", {"worker": "w"}) for s in two * 3]
    gevent.joinall(claims, timeout=180)
    assert sorted(claim.value.status_int for claim in claims) == [200, 409, 409, 409, 409, 409]


def test_a_claim_right_after_an_append_elsewhere_succeeds_though_its_wake_was_lost(
    cluster: Cluster, two: tuple[Subscribed, Subscribed]
) -> None:
    one, other = two
    one.subscribe(streams=["manual/a"], pattern="events/*")
    other.shown()
    cluster.bus.is_broken = True
    tail = one.create("events/a", 1)
    told = other.claim()
    assert [stream["tail_offset"] for stream in told["streams"] if stream["has_pending"]] == [tail]
    assert one.ack(told).json["next_wake"] is False


def test_another_takes_over_when_the_one_that_dispatches_dies(
    cluster: Cluster, two: tuple[Subscribed, Subscribed]
) -> None:
    one, other = two
    with Receiver(TAKEN) as receiver:
        other.subscribe(webhook={"url": receiver.url})
        other.create("events/a", 1)
        first = delivery(receiver).document
        cluster.settle()
        cluster.kill(one)
        other.ack(first, action="/callback")
        other.append("events/a", 2)
        clock = other.store._pipeline.clock
        other.store._pipeline.clock = lambda: clock() + LEASE_S + 1
        assert cluster.leader() is other
        assert delivery(receiver).document["generation"] == 2


def test_who_takes_over_goes_on_with_the_wake_in_flight(
    cluster: Cluster, two: tuple[Subscribed, Subscribed]
) -> None:
    one, other = two
    one.subscribe()
    one.dispatcher._take_step = lambda tracked, step: None
    one.create("events/a", 1)
    from durable_streams.protocol.subscriptions.requests import WakeUp

    one.registry.update("sub-1", WakeUp("w_before"))
    cluster.kill(one)
    clock = other.store._pipeline.clock
    other.store._pipeline.clock = lambda: clock() + LEASE_S + 1
    assert cluster.leader() is other
    until(lambda: other.messages("wake/pool"), "the wake event")
    assert other.claim()["wake_id"] == "w_before"


def test_two_that_both_dispatch_deliver_nothing_twice_for_good(
    cluster: Cluster, two: tuple[Subscribed, Subscribed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease has ended for one of them, who does not know yet."""
    one, other = two
    other.dispatcher._leads = lambda: True
    with Receiver() as receiver:
        one.subscribe(webhook={"url": receiver.url})
        seen: dict[int, str] = {}
        for number in range(20):
            _ = other.create("events/a", 0) if not number else other.append("events/a", number)
            cluster.settle()
            cluster.settle()
        for sent in receiver.all_so_far():
            told = sent.document
            # The same wake may be told twice, but a generation is never two wakes.
            assert seen.setdefault(told["generation"], told["wake_id"]) == told["wake_id"]
        until(lambda: one.shown()["lag"]["streams"] == 0, "the acks")
        assert one.shown()["generation"] == max(seen)


def test_wakes_that_were_lost_are_found(cluster: Cluster, two: tuple[Subscribed, Subscribed]) -> None:
    one, other = two
    other.subscribe(streams=["manual/a"], pattern="events/*")
    cluster.settle()
    cluster.bus.is_broken = True
    other.create("events/a", 1)
    other.create("manual/a", 1)
    other.subscribe("sub-2", wake_stream="wake/two", pattern="events/*", start="beginning")
    cluster.settle()
    assert other.messages("wake/pool") == []
    cluster.bus.say_lost()
    until(lambda: other.messages("wake/pool"), "the first")
    until(lambda: other.messages("wake/two"), "the second")
    assert one.shown("sub-2")["lag"]["streams"] == 1


def test_two_that_make_the_same_subscription_at_once_make_one(two: tuple[Subscribed, Subscribed]) -> None:
    import gevent

    one, other = two
    one.create("wake/pool")
    document = {"type": "pull-wake", "wake_stream": "wake/pool", "pattern": "events/*"}
    puts = [gevent.spawn(s.control, "PUT", "sub-1", document=document) for s in two * 3]
    gevent.joinall(puts, timeout=180)
    assert sorted(put.value.status_int for put in puts) == [200, 200, 200, 200, 200, 201]
    assert one.shown() == other.shown()


def test_changes_at_once_by_two_are_all_kept(two: tuple[Subscribed, Subscribed]) -> None:
    import gevent

    one, other = two
    one.subscribe(streams=["first"])
    paths = [f"manual/{number}" for number in range(40)]
    adds = [
        gevent.spawn((one, other)[index % 2].control, "POST", "sub-1", "/streams", {"streams": [path]})
        for index, path in enumerate(paths)
    ]
    gevent.joinall(adds, timeout=180)
    assert {add.value.status_int for add in adds} == {204}
    for server in two:
        assert [link["path"] for link in server.shown()["streams"]] == sorted(["first", *paths])
