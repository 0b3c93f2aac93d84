"""Defaults by name prefix: which rule a stream gets, and what a client may leave out or ask for itself."""

from __future__ import annotations

import pytest

from tests.web.conftest import OpenServer
from tests.web.driving import TEXT, Server

RULES = [
    {"prefix": "tmp/", "ttl_secs": 60, "max_stream_bytes": 4},
    {"prefix": "tmp/long/", "ttl_secs": 3600},
    {"prefix": "few/", "max_producers_per_stream": 1, "max_forks_per_stream": 1, "producer_ttl_secs": 5},
]


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    return open_server(defaults={"by_prefix": RULES}, limits={"max_stream_bytes": 8})


def ttl(server: Server, name: str) -> str | None:
    found: str | None = server.head(name).headers.get("Stream-TTL")
    return found


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("tmp/a", "60"),
        ("tmp/long/a", "3600"),
        ("tmp", None),
        ("tmpx/a", None),
        ("x/tmp/a", None),
        ("few/a", None),
    ],
)
def test_the_longest_prefix_gives_the_ttl(server: Server, name: str, seconds: str | None) -> None:
    server.put(name, b"", TEXT)
    assert ttl(server, name) == seconds


def test_what_the_client_asks_for_counts_before_it(server: Server) -> None:
    server.put("tmp/a", b"", TEXT | {"Stream-TTL": "7"})
    assert ttl(server, "tmp/a") == "7"
    server.put("tmp/b", b"", TEXT | {"Stream-Expires-At": "2099-01-01T00:00:00Z"})
    assert ttl(server, "tmp/b") is None
    assert server.head("tmp/b").headers["Stream-Expires-At"] == "2099-01-01T00:00:00Z"


def test_creating_it_again_is_the_same_request(server: Server) -> None:
    assert [server.put("tmp/a", b"", TEXT).status_int for _ in range(2)] == [201, 200]
    assert server.put("tmp/a", b"", TEXT | {"Stream-TTL": "60"}).status_int == 200
    assert server.put("tmp/a", b"", TEXT | {"Stream-TTL": "61"}).status_int == 409
    server.put("tmp/own", b"", TEXT | {"Stream-TTL": "7"})
    assert server.put("tmp/own", b"", TEXT).status_int == 200, "the client leaves it to the server"


def test_without_a_rule_a_stream_with_another_ttl_is_another_stream(server: Server) -> None:
    server.put("a", b"", TEXT | {"Stream-TTL": "7"})
    assert server.put("a", b"", TEXT).status_int == 409


def test_a_stream_expires_by_its_default(server: Server) -> None:
    server.put("tmp/a", b"", TEXT)
    server.clock.now += 61
    assert server.get("tmp/a?offset=-1").status_int == 404


def test_a_fork_inherits_from_its_source_and_not_from_the_rule(server: Server) -> None:
    server.put("a", b"x", TEXT)
    assert server.put("tmp/fork", b"", {"Stream-Forked-From": "/v1/stream/a"}).status_int == 201
    assert ttl(server, "tmp/fork") is None


def test_limits_hold_below_the_prefix_alone(server: Server) -> None:
    server.put("tmp/a", b"", TEXT)
    server.put("a", b"", TEXT)
    assert server.post("tmp/a", b"12345", TEXT).status_int == 413
    assert server.post("a", b"12345", TEXT).status_int == 204
    server.put("tmp/long/a", b"", TEXT)
    assert server.post("tmp/long/a", b"12345", TEXT).status_int == 204, "the longest rule has the usual limit"


def test_producers_and_forks_are_limited_below_the_prefix(server: Server) -> None:
    def producer(name: str) -> dict[str, str]:
        return TEXT | {"Producer-Id": name, "Producer-Epoch": "0", "Producer-Seq": "0"}

    for folder, last in (("few", 429), ("many", 200)):
        server.put(f"{folder}/a", b"", TEXT)
        assert server.post(f"{folder}/a", b"x", producer("one")).status_int == 200
        assert server.post(f"{folder}/a", b"x", producer("two")).status_int == last
    for folder, last in (("few", 429), ("many", 201)):
        fork = {"Stream-Forked-From": f"/v1/stream/{folder}/a"}
        assert server.put(f"{folder}-1", b"", fork).status_int == 201
        assert server.put(f"{folder}-2", b"", fork).status_int == last


def test_a_rule_for_everything_leaves_internal_streams_alone(open_server: OpenServer) -> None:
    server = open_server(defaults={"by_prefix": [{"prefix": "", "ttl_secs": 60}]})
    server.put("a", b"", TEXT)
    assert ttl(server, "a") == "60"
    assert server.store.writes.limits.of("__ds/documents/x").ttl_s == 0
