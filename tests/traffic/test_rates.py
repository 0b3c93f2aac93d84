"""Rates: who is counted together, what is refused and said, what a refusal leaves, and that memory stays bounded."""

from __future__ import annotations

from typing import Any

import pytest
from limits import parse
from limits.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter

from durable_streams.config.traffic import Operation
from durable_streams.traffic.counters import BoundedCounters
from durable_streams.traffic.rates import OTHER, STREAM_OPERATIONS
from durable_streams.web import stream_routes
from durable_streams.web.exchange import Exchange
from tests.clock import Clock
from tests.web.conftest import OpenServer
from tests.web.driving import BASE, TEXT, Server

pytestmark = pytest.mark.usefixtures("clock")


def rates(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"rules": list(rules)}


def as_named(exchange: Exchange) -> None:
    """A gate that believes what it is told."""
    exchange.principal = exchange.environ.get("HTTP_X_NAME")


def asked(server: Server, target: str, *, address: str = "10.0.0.1", name: str = "") -> Any:
    return server.request("GET", target, headers={"X-Name": name} if name else {}, REMOTE_ADDR=address)


def test_a_request_beyond_the_rate_is_429_and_says_when_to_come_again(
    open_server: OpenServer, clock: Clock
) -> None:
    server = open_server(rates=rates({"limit": "2/minute"}))
    first = asked(server, "x")
    assert first.status_int == 404
    assert first.headers["RateLimit-Policy"] == '"rate-1";q=2;w=60'
    assert first.headers["RateLimit"].startswith('"rate-1";r=1;t=')
    asked(server, "x")
    refused = asked(server, "x")
    assert refused.status_int == 429
    assert refused.json["code"] == "TOO_MANY_REQUESTS"
    assert "2 per 1 minute" in refused.json["detail"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit"].startswith('"rate-1";r=0;t=')
    clock.now += 120
    assert asked(server, "x").status_int == 404


def test_who_waits_as_long_as_told_is_served(open_server: OpenServer, clock: Clock) -> None:
    server = open_server(rates=rates({"limit": "5/minute"}))
    served, began_at = 0, clock.now
    for _ in range(60):
        answer = asked(server, "x")
        if answer.status_int == 429:
            clock.now += int(answer.headers["Retry-After"])
        else:
            served += 1
    assert served >= 0.8 * 5 * (clock.now - began_at) / 60


def test_a_refused_write_changes_nothing(open_server: OpenServer) -> None:
    server = open_server(rates=rates({"limit": "1/hour", "operations": ["append"]}))
    server.put("a", b"", TEXT)
    assert [server.post("a", b"x", TEXT).status_int for _ in range(3)] == [204, 429, 429]
    assert server.get("a?offset=-1").body == b"x"


def test_addresses_are_counted_apart_and_one_ipv6_network_together(open_server: OpenServer) -> None:
    server = open_server(rates=rates({"limit": "1/minute"}))
    for address in ("10.0.0.1", "10.0.0.2", "2001:db8::1"):
        assert asked(server, "x", address=address).status_int == 404
        assert asked(server, "x", address=address).status_int == 429
    assert asked(server, "x", address="2001:db8::2").status_int == 429
    assert asked(server, "x", address="::ffff:10.0.0.1").status_int == 429
    assert asked(server, "x", address="2001:db8:0:1::1").status_int == 404


def test_principals_are_counted_wherever_they_come_from(open_server: OpenServer) -> None:
    server = open_server(gates=[as_named], rates=rates({"limit": "1/minute", "by": "principal"}))
    assert asked(server, "x", name="ann").status_int == 404
    assert asked(server, "x", name="ann", address="10.0.0.9").status_int == 429
    assert asked(server, "x", name="bob").status_int == 404
    assert asked(server, "x").status_int == 404, "who has no name is counted by address"
    assert asked(server, "x").status_int == 429


def test_rates_by_address_count_before_anybody_is_let_in(open_server: OpenServer, tmp_path: Any) -> None:
    server = open_server(
        auth={"mode": "tokens", "tokens_path": str(tmp_path / "tokens")},
        rates=rates({"limit": "2/minute"}),
    )
    assert [asked(server, "x").status_int for _ in range(3)] == [401, 401, 429], "guessing is slow"


@pytest.mark.parametrize(
    ("operations", "refused"),
    [
        (["read"], {"GET x?offset=-1"}),
        (["head", "delete"], {"HEAD x", "DELETE x"}),
        (["other"], {"GET /", "GET /nowhere", "GET __ds/subscriptions"}),
        ([], {"GET x?offset=-1", "HEAD x", "DELETE x", "GET /", "GET /nowhere", "GET __ds/subscriptions"}),
    ],
)
def test_a_rule_is_for_its_operations(
    open_server: OpenServer, operations: list[str], refused: set[str]
) -> None:
    requests = [
        "GET x?offset=-1",
        "HEAD x",
        "DELETE x",
        "GET /",
        "GET /nowhere",
        "GET __ds/subscriptions",
        "GET /healthz",
        "GET /readyz",
        "OPTIONS x",
    ]
    found = set()
    for line in requests:
        server = open_server(rates=rates({"limit": "1/day", "operations": operations}))
        method, target = line.split()
        statuses = [server.request(method, target).status_int for _ in range(2)]
        assert statuses[0] != 429
        if statuses[1] == 429:
            found.add(line)
    assert found == refused


def test_each_rule_has_its_headers(open_server: OpenServer) -> None:
    server = open_server(rates=rates({"limit": "10/second"}, {"limit": "100/hour", "operations": ["head"]}))
    assert asked(server, "x").headers.getall("RateLimit-Policy") == ['"rate-1";q=10;w=1']
    policies = server.head("x").headers.getall("RateLimit-Policy")
    assert policies == ['"rate-1";q=10;w=1', '"rate-2";q=100;w=3600']


def test_flasks_own_pages_have_the_headers(open_server: OpenServer) -> None:
    server = open_server(rates=rates({"limit": "1/minute"}))
    assert "RateLimit" in server.get("/").headers
    assert server.get("/").status_int == 429
    assert "RateLimit" not in server.get("/healthz").headers


def test_a_blueprint_has_them_too(open_server: OpenServer) -> None:
    server = open_server(embedded=True, rates=rates({"limit": "1/minute"}))
    assert [server.get(BASE + "x").status_int for _ in range(2)] == [404, 429]


def test_rates_make_no_answer_private_and_open_no_claims(open_server: OpenServer) -> None:
    server = open_server(rates=rates({"limit": "100/minute"}))
    server.put("a", b"x", TEXT)
    assert server.get("a?offset=-1").headers["Cache-Control"].startswith("public")
    assert server.post("__ds/subscriptions/s/claim", b'{"worker": "w"}').status_int == 503


def test_quotas_of_principals_and_prefixes(open_server: OpenServer, clock: Clock) -> None:
    server = open_server(
        gates=[as_named],
        quotas={
            "by_principal": [
                {"principal": "ann", "bytes_per_day": 4},
                {"principal": "*", "creates_per_day": 1},
            ],
            "by_prefix": [{"prefix": "slow/", "appends_per_sec": 1}],
        },
    )

    def put(name: str, body: bytes, who: str) -> int:
        status: int = server.put(name, body, TEXT | {"X-Name": who}).status_int
        return status

    assert [put("a", b"123", "ann"), put("b", b"12", "ann"), put("c", b"1", "ann")] == [201, 429, 201]
    assert [put("d", b"", "bob"), put("e", b"", "bob"), put("f", b"", "eve")] == [201, 429, 201]
    assert put("slow/a", b"", "zoe") == 201
    assert [server.post("slow/a", b"x", TEXT).status_int for _ in range(2)] == [204, 429]
    clock.now += 2
    assert server.post("slow/a", b"x", TEXT).status_int == 204


def test_bytes_that_come_in_chunks_are_counted_while_they_come(open_server: OpenServer) -> None:
    server = open_server(quotas={"by_prefix": [{"prefix": "", "bytes_per_day": 4}]})
    server.put("a", b"", TEXT)
    environ = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    statuses = [
        server.request("POST", "a", body, TEXT, **environ).status_int for body in (b"123", b"45", b"6")
    ]
    assert statuses == [204, 429, 204]
    assert server.get("a?offset=-1").body == b"1236"


def test_the_counters_forget_the_client_that_was_silent_longest() -> None:
    counters = BoundedCounters(3)
    limiter = SlidingWindowCounterRateLimiter(counters)
    item = parse("1/day")
    for client in ("a", "b", "c"):
        assert limiter.hit(item, client)
    assert not limiter.hit(item, "a")
    for client in ("d", "e"):
        assert limiter.hit(item, client)
    assert len(counters) == 3
    assert not limiter.hit(item, "a"), "it has asked since"
    assert limiter.hit(item, "b")


def test_no_window_of_that_length_has_more_than_the_rate(clock: Clock) -> None:
    limiter = SlidingWindowCounterRateLimiter(BoundedCounters(10))
    item = parse("10/minute")
    taken = []
    for _ in range(600):
        clock.now += 1
        if limiter.hit(item, "x"):
            taken.append(clock.now)
    # The counter weighs the window before, so it is exact for a steady client.
    assert max(sum(1 for at in taken if start <= at < start + 60) for start in taken) <= 11
    assert len(taken) >= 90


def test_the_storage_has_the_fixed_windows_of_the_library_too(clock: Clock) -> None:
    counters = BoundedCounters(10)
    limiter = FixedWindowRateLimiter(counters)
    item = parse("2/minute")
    assert [limiter.hit(item, "x") for _ in range(3)] == [True, True, False]
    assert limiter.get_window_stats(item, "x").reset_time == clock.now + 60
    clock.now += 60
    assert limiter.test(item, "x")
    assert limiter.hit(item, "x")
    counters.clear(item.key_for("x"))
    assert counters.get(item.key_for("x")) == 0
    assert counters.check()
    limiter.hit(item, "y")
    assert counters.reset() == 1


def test_the_operations_of_rules_are_those_of_streams() -> None:
    names = ("CREATE", "APPEND", "READ", "POLL", "SUBSCRIBE", "HEAD", "DELETE")
    operations = {getattr(stream_routes, name) for name in names}
    assert operations == STREAM_OPERATIONS
    assert set(Operation.__args__) == operations | {OTHER}  # type: ignore[attr-defined]
