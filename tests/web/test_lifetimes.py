"""Sliding windows and deadlines over HTTP (section 5.1): what renews, what does not, and who keeps a stream alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from durable_streams.streams import sweeper
from durable_streams.streams.budget import held_bytes
from tests.web.conftest import OpenServer
from tests.web.driving import CLOSE, JSON, PATIENCE_S, TEXT, Headers, Server

WINDOW = {**TEXT, "Stream-TTL": "100"}


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    server = open_server(server={"sse_reconnect_interval_secs": 0, "long_poll_timeout_secs": 0.01})
    server.put("s", b"abc", WINDOW)
    return server


def lives(server: Server, name: str = "s") -> bool:
    status = server.head(name).status_int
    assert status in (200, 404)
    return status == 200


def test_a_stream_goes_when_its_window_has_passed(server: Server) -> None:
    server.clock.now += 99.9
    assert lives(server)
    server.clock.now += 0.2
    assert not lives(server)
    assert server.get("s").json["code"] == "NOT_FOUND"
    assert server.post("s", b"x", TEXT).status_int == 404
    assert server.delete("s").status_int == 404
    assert server.put("s", headers=JSON).status_int == 201


PRODUCER = {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": "0"}

RENEWING: dict[str, Callable[[Server], Any]] = {
    "read": lambda server: server.get("s"),
    "read at the tail": lambda server: server.get(f"s?offset={server.tail('s')}"),
    "read from now": lambda server: server.get("s?offset=now"),
    "not modified": lambda server: server.get("s", {"If-None-Match": "*"}),
    "long-poll with data": lambda server: server.get("s?offset=-1&live=long-poll"),
    "long-poll without": lambda server: server.get("s?offset=now&live=long-poll"),
    "append": lambda server: server.post("s", b"x", TEXT),
    "repeated append": lambda server: server.post("s", b"x", {**TEXT, **PRODUCER}),
    "close": lambda server: server.post("s", headers=CLOSE),
    "events": lambda server: events_for_a_moment(server),
}

NOT_RENEWING: dict[str, Callable[[Server], Any]] = {
    "nothing": lambda server: None,
    "head": lambda server: server.head("s"),
    "options": lambda server: server.request("OPTIONS", "s"),
    "put again": lambda server: server.put("s", b"abc", WINDOW),
    "put of another kind": lambda server: server.put("s", headers=JSON),
    "refused append": lambda server: server.post("s", b"x", JSON),
    "empty append": lambda server: server.post("s", b"", TEXT),
    "wrong offset": lambda server: server.get("s?offset=abc"),
    "offset beyond the tail": lambda server: server.get(f"s?offset={server.offset('s', 99)}"),
    "unknown live mode": lambda server: server.get("s?offset=-1&live=ws"),
    "patch": lambda server: server.request("PATCH", "s"),
    "the sweeper": lambda server: server.store.sweep(),
}


def events_for_a_moment(server: Server) -> None:
    reader = server.reading("s?offset=-1&live=sse")
    reader.caught_up()
    reader.leave()


def acts_of(table: dict[str, Callable[[Server], Any]]) -> Any:
    return pytest.mark.parametrize("act", table.values(), ids=table)


@acts_of(RENEWING)
def test_the_window_begins_anew_with(server: Server, act: Callable[[Server], Any]) -> None:
    for _ in range(3):
        server.clock.now += 90
        act(server)
        assert lives(server)
    server.clock.now += 101
    assert not lives(server)


@acts_of(RENEWING)
def test_the_window_begins_anew_also_soon_after_it_began(
    server: Server, act: Callable[[Server], Any]
) -> None:
    """So soon that a read is not recorded by itself."""
    server.clock.now += 5
    act(server)
    server.clock.now += 97
    assert lives(server)
    server.clock.now += 4
    assert not lives(server)


@acts_of(NOT_RENEWING)
def test_the_window_does_not_begin_anew_with(server: Server, act: Callable[[Server], Any]) -> None:
    server.clock.now += 90
    act(server)
    server.clock.now += 11
    assert not lives(server)


@acts_of({**RENEWING, **NOT_RENEWING})
def test_a_deadline_is_not_moved_by(open_server: OpenServer, act: Callable[[Server], Any]) -> None:
    server = open_server(server={"long_poll_timeout_secs": 0.01})
    server.put("s", b"abc", {**TEXT, "Stream-Expires-At": "2027-01-15T08:01:40Z"})
    server.clock.now += 90
    act(server)
    assert lives(server)
    server.clock.now += 11
    assert not lives(server)


@pytest.mark.parametrize("mode", ["long-poll", "sse"])
def test_a_stream_with_a_reader_attached_does_not_expire(open_server: OpenServer, mode: str) -> None:
    server = open_server(server={"sse_reconnect_interval_secs": 0, "long_poll_timeout_secs": 3600})
    server.put("s", b"abc", WINDOW)
    reader = server.reading(f"s?offset=now&live={mode}")
    second = server.reading(f"s?offset=now&live={mode}")
    for _ in range(5):
        server.clock.now += 1000
        server.store.sweep()
        assert lives(server)
    second.leave()
    server.clock.now += 1000
    server.store.sweep()
    assert reader.is_waiting
    # When the last reader goes, the window runs again, from its beginning.
    reader.leave()
    server.clock.now += 99
    server.store.sweep()
    assert lives(server)
    server.clock.now += 2
    assert not lives(server)


def test_a_live_reader_does_not_keep_a_stream_beyond_its_deadline(open_server: OpenServer) -> None:
    server = open_server(server={"sse_reconnect_interval_secs": 0})
    server.put("s", b"abc", {**TEXT, "Stream-Expires-At": "2027-01-15T08:01:40Z"})
    reader = server.reading("s?offset=-1&live=sse")
    reader.caught_up()
    server.clock.now += 101
    server.store.sweep()
    assert reader.rest() == b""
    assert not lives(server)


@pytest.fixture
def sweeping(monkeypatch: pytest.MonkeyPatch, open_server: OpenServer) -> Server:
    """A server that sweeps all the time, two streams in one go."""
    monkeypatch.setattr(sweeper, "SWEEP_INTERVAL_S", 0.001)
    monkeypatch.setattr(sweeper, "SWEEP_STREAMS_MAX", 2)
    return open_server()


def test_expired_streams_go_without_being_touched(sweeping: Server) -> None:
    for number in range(7):
        sweeping.put(f"short/{number}", b"x" * 10, WINDOW)
    sweeping.put("long", b"kept", TEXT)
    sweeping.clock.now += 101
    storage = sweeping.store.storage
    with gevent.Timeout(PATIENCE_S):
        while len(storage.names("", "", 100)) > 1:
            gevent.sleep(0.001)
    assert storage.names("", "", 100) == ["long"]
    assert sweeping.store.writes.budget.total == held_bytes(sweeping.store.find("long"))


def test_the_sweeper_outlives_a_round_that_fails(sweeping: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    later = Event()

    def failing(limit: int) -> int:
        rounds.append(limit)
        if len(rounds) == 1:
            raise RuntimeError("only once")
        later.set()
        return 0

    monkeypatch.setattr(sweeping.store, "sweep", failing)
    sweeping.put("s", headers=TEXT)
    assert later.wait(PATIENCE_S)


FORKED: list[tuple[Headers, Headers, Headers]] = [
    ({}, {}, {}),
    ({}, {"Stream-TTL": "5"}, {"Stream-TTL": "5"}),
    ({}, {"Stream-Expires-At": "2030-01-01T00:00:00Z"}, {"Stream-Expires-At": "2030-01-01T00:00:00Z"}),
    ({"Stream-TTL": "9"}, {}, {"Stream-TTL": "9"}),
    ({"Stream-TTL": "9"}, {"Stream-TTL": "5"}, {"Stream-TTL": "5"}),
    (
        {"Stream-TTL": "9"},
        {"Stream-Expires-At": "2030-01-01T00:00:00Z"},
        {"Stream-Expires-At": "2030-01-01T00:00:00Z"},
    ),
    ({"Stream-Expires-At": "2031-01-01T00:00:00Z"}, {}, {"Stream-Expires-At": "2031-01-01T00:00:00Z"}),
    ({"Stream-Expires-At": "2031-01-01T00:00:00Z"}, {"Stream-TTL": "5"}, {"Stream-TTL": "5"}),
    (
        {"Stream-Expires-At": "2031-01-01T00:00:00Z"},
        {"Stream-Expires-At": "2032-01-01T00:00:00Z"},
        {"Stream-Expires-At": "2032-01-01T00:00:00Z"},
    ),
]


@pytest.mark.parametrize(("source", "asked", "gets"), FORKED)
def test_the_nine_rows_of_fork_lifetimes(
    server: Server, source: Headers, asked: Headers, gets: Headers
) -> None:
    server.put("source", headers={**TEXT, **source})
    headers = {"Stream-Forked-From": "source", **asked}
    assert server.put("fork", headers=headers).status_int == 201
    told = server.head("fork").headers
    assert {name: told[name] for name in ("Stream-TTL", "Stream-Expires-At") if name in told} == gets
    assert server.put("fork", headers=headers).status_int == 200
