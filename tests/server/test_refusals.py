"""What the HTTP parser refuses is refused as everything else: problem+json, on both workers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server, running_server

pytestmark = pytest.mark.server

REFUSED = {
    "an ill-formed request line": (b"GET\r\n\r\n", 400),
    "a space before a colon": (b"GET /v1/stream/a HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "two lengths": (
        b"POST /v1/stream/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
    ),
    "a line that is too long": (b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "a line without an end": (b"GET /" + b"a" * 60_000, 414),
    "a head that is too long": (
        b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"X-B: " + b"b" * 5000 + b"\r\n") * 14 + b"\r\n",
        431,
    ),
    "a head without an end": (
        b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"X-B: " + b"b" * 500 + b"\r\n") * 140,
        431,
    ),
    "one header without an end": (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 70_000, 431),
    "a coding that nobody undoes": (
        b"POST /v1/stream/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
    ),
}


@pytest.fixture(scope="module", params=["stream", "gevent"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("refusals"), {"DS_SERVER__WORKER_CLASS": request.param}
    ) as running:
        yield running


@pytest.fixture(scope="module", params=["stream", "gevent"])
def listed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that one origin may use."""
    settings = {
        "DS_SERVER__WORKER_CLASS": request.param,
        "DS_HTTP__CORS_ORIGINS": "https://app.example",
    }
    with running_server(tmp_path_factory.mktemp("listed"), settings) as running:
        yield running


@pytest.mark.parametrize("case", ["a line that is too long", "a head that is too long"])
def test_a_page_of_a_listed_origin_may_read_the_refusal(listed: Server, case: str) -> None:
    request, status = REFUSED[case]
    with (
        socket.create_connection(("127.0.0.1", listed.port), timeout=180) as wire,
        wire.makefile("rb") as reader,
    ):
        wire.sendall(request.replace(b"Host: x", b"Host: x\r\nOrigin: https://app.example"))
        head = b"".join(iter(reader.readline, b"\r\n")).lower()
    assert int(head.split()[1]) == status
    assert b"access-control-allow-origin: https://app.example\r\n" in head
    assert b"vary: origin\r\n" in head


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_answered_with_a_problem(server: Server, case: str) -> None:
    request, status = REFUSED[case]
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=180) as wire,
        wire.makefile("rb") as reader,
    ):
        wire.sendall(request)
        head = b"".join(iter(reader.readline, b"\r\n"))
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        problem = json.loads(reader.read(length))
    assert b"content-type: application/problem+json" in head.lower()
    assert b"access-control-allow-origin: *" in head.lower()
    assert head.lower().count(b"x-content-type-options: nosniff") == 1
    assert int(head.split()[1]) == status
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["type"].startswith("/errors/")


ENCODED = {
    b"/v1/stream/a%2Fb": 404,
    b"/v1/stream%2Fa": 404,
    b"/v1%2Fstream/a": 404,
    b"/v1/stream/there": 200,
    b"/%76%31/stream/there": 200,
    b"/v1%2fstream/there": 404,
}


@pytest.mark.parametrize(("target", "status"), ENCODED.items(), ids=str)
def test_an_encoded_slash_is_no_part_of_the_base_path(server: Server, target: bytes, status: int) -> None:
    server.request("PUT", "/v1/stream/there")
    assert server.request("GET", target.decode()).status == status


TAKEN = {
    "a token in the query": b"GET /v1/stream/none?offset=-1&token="
    + b"t" * 16_000
    + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a large header": b"GET /v1/stream/none HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 60_000 + b"\r\n\r\n",
    "an old version": b"GET /v1/stream/none HTTP/1.0\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("case", TAKEN)
def test_long_heads_within_the_limits_are_served_as_http_1_1(server: Server, case: str) -> None:
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire,
        wire.makefile("rb") as reader,
    ):
        wire.sendall(TAKEN[case])
        assert reader.readline() == b"HTTP/1.1 404 Not Found\r\n"


def test_a_full_server_answers_its_probes_and_refuses_everything_else(tmp_path: Path) -> None:
    settings = {"DS_SERVER__WORKER_CONNECTIONS": "3", "DS_SERVER__KEEPALIVE_SECS": "600"}
    with running_server(tmp_path, settings) as server:
        held = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(3)]
        for wire in held:
            # Answered, so it has been accepted and is kept.
            wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert wire.recv(100).startswith(b"HTTP/1.1 200")
        for probe in ("/healthz", "/readyz"):
            assert server.request("GET", probe).status == 200
        refusal = server.request("GET", "/v1/stream/a")
        assert (refusal.status, refusal.headers["Retry-After"]) == (503, "1")
        assert "server.worker_connections = 3" in json.loads(refusal.body)["detail"]
        for wire in held:
            wire.close()
        server.await_true(lambda: server.request("GET", "/v1/stream/a").status == 404)


def test_one_client_has_no_more_than_its_connections(tmp_path: Path) -> None:
    with running_server(tmp_path, {"DS_LIMITS__MAX_CONNECTIONS_PER_CLIENT": "2"}) as server:
        held = [server.connect() for _ in range(2)]
        for connection in held:
            connection.request("GET", "/v1/stream/a")
            assert connection.getresponse().read()
        refusal = server.request("GET", "/v1/stream/a")
        assert refusal.status == 503
        assert "limits.max_connections_per_client = 2" in json.loads(refusal.body)["detail"]
        for connection in held:
            connection.close()
        server.await_true(lambda: server.request("GET", "/v1/stream/a").status == 404)
