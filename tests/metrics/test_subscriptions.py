"""What the page says of subscriptions: how far workers are behind, and what became of deliveries."""

from __future__ import annotations

import pytest

from durable_streams.subscriptions import figures
from tests.metrics.reading import families, samples, value
from tests.subscriptions.conftest import OpenSubscribed, open_server
from tests.subscriptions.driving import Subscribed, delivery, until
from tests.subscriptions.receiver import Receiver, answer

__all__ = ["open_server"]

FAILED = answer(None, "500 Internal Server Error")


@pytest.fixture
def server(open_server: OpenSubscribed) -> Subscribed:
    return open_server(metrics={"enabled": True})


def figure(server: Subscribed, name: str, **labels: str) -> float:
    return value(samples(server), name, **labels)


def test_everything_is_zero_before_anything_happens(server: Subscribed) -> None:
    server.settle()
    found = {
        (name, labels): count
        for (name, labels), count in samples(server).items()
        if "subscription" in name or "deliver" in name or name.endswith(("letters_total", "leases_total"))
    }
    assert len(found) == 11
    assert set(found.values()) == {0.0}


def test_without_subscriptions_there_is_nothing_to_say(open_server: OpenSubscribed) -> None:
    from tests.web.driving import Server

    server = Server(metrics={"enabled": True}, subscriptions={"enabled": False})
    assert not [name for name in families(server) if "subscription" in name or "deliver" in name]
    server.close()


def test_the_backlog_grows_with_appends_and_goes_with_acks(server: Subscribed) -> None:
    server.subscribe()
    server.subscribe("quiet", streams=["other"])
    server.create("events/a", 1)
    server.create("events/b", 1)
    server.settle()
    server.advance(100)
    assert figure(server, "subscriptions") == 2
    assert figure(server, "subscriptions_pending") == 1
    assert figure(server, "subscription_pending_streams") == 2
    assert 100 <= figure(server, "subscription_lag_seconds") < 200
    assert figure(server, "deliveries_total", type="pull-wake") == 1
    server.ack(server.claim())
    server.settle()
    assert figure(server, "subscriptions_pending") == 0
    assert figure(server, "subscription_pending_streams") == 0
    assert figure(server, "subscription_lag_seconds") == 0
    server.control("DELETE", "quiet")
    assert figure(server, "subscriptions") == 1


def test_attempts_and_failures_of_webhooks_are_counted(server: Subscribed) -> None:
    with Receiver(FAILED) as receiver:
        server.subscribe(webhook={"url": receiver.url})
        server.create("events/a", 1)
        delivery(receiver)
        until(lambda: figure(server, "delivery_failures_total", type="webhook") == 1, "the failure")
        assert figure(server, "subscriptions_failing") == 1
        server.advance(10)
        delivery(receiver)
        until(lambda: figure(server, "delivery_failures_total", type="webhook") == 2, "the second failure")
        assert figure(server, "deliveries_total", type="webhook") == 2
        assert figure(server, "deliveries_total", type="pull-wake") == 0
        receiver.behaviour = lambda delivery: answer({"done": True})
        server.advance(10)
        delivery(receiver)
        until(lambda: figure(server, "subscriptions_failing") == 0, "success")
        assert figure(server, "delivery_failures_total", type="webhook") == 2


def test_a_lease_that_ends_without_an_ack_is_counted(server: Subscribed) -> None:
    server.subscribe(lease_ttl_ms=5000)
    server.create("events/a", 1)
    server.claim()
    assert figure(server, "expired_leases_total") == 0
    server.advance(6)
    server.settle()
    assert figure(server, "expired_leases_total") == 1


def test_many_are_counted_in_slices(server: Subscribed, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = []
    monkeypatch.setattr(figures, "SLICE", 2)
    monkeypatch.setattr(figures, "yield_to_loop", lambda: turns.append(1))
    for number in range(5):
        server.subscribe(f"sub-{number}")
    server.settle()
    turns.clear()
    assert server.subscriptions.backlog().subscriptions == 5
    assert len(turns) == 2
