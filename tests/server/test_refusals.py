"""What the HTTP parser refuses is refused as everything else: problem+json, on both workers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from durable_streams.worker.admission import POOL_SPARE
from tests.servers import Server, TlsFiles, running_server

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


both_workers = pytest.mark.parametrize("worker_class", ["stream", "gevent"])
PROBES = ("/healthz", "/readyz")


@contextmanager
def holding(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Connections that are served, and kept."""
    with ExitStack() as connections:
        held = [connections.enter_context(connected(server)) for _ in range(count)]
        for wire in held:
            # Answered, so it has been accepted.
            wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert wire.recv(100).startswith(b"HTTP/1.1 200")
        yield held


def connected(server: Server, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=180, source_address=(source, 0))


def is_refused(server: Server, limit: str) -> bool:
    refusal = server.request("GET", "/v1/stream/a")
    assert (refusal.status, refusal.headers["Retry-After"]) == (503, "1")
    assert refusal.headers["Connection"] == "close"
    assert refusal.headers["Access-Control-Allow-Origin"] == "*"
    return json.loads(refusal.body)["detail"] == f"{limit} is reached"


@both_workers
def test_a_full_server_answers_its_probes_and_refuses_everything_else(
    worker_class: str, tmp_path: Path
) -> None:
    settings = {
        "DS_SERVER__WORKER_CLASS": worker_class,
        "DS_SERVER__WORKER_CONNECTIONS": "3",
        "DS_SERVER__KEEPALIVE_SECS": "600",
    }
    with running_server(tmp_path, settings) as server:
        with holding(server, 3):
            for probe in PROBES:
                answer = server.request("GET", probe)
                assert (answer.status, answer.headers["Connection"]) == (200, "close")
            assert is_refused(server, "server.worker_connections = 3")
            # Connections that ask nothing, more than the server keeps and than its pool has room for.
            with ExitStack() as connections:
                for _ in range(3 * POOL_SPARE):
                    connections.enter_context(connected(server))
                for probe in PROBES:
                    assert server.request("GET", probe).status == 200
                assert is_refused(server, "server.worker_connections = 3")
        server.await_true(lambda: server.request("GET", "/v1/stream/a").status == 404)


@both_workers
def test_a_client_with_all_its_connections_costs_the_others_none(worker_class: str, tmp_path: Path) -> None:
    settings = {
        "DS_SERVER__WORKER_CLASS": worker_class,
        "DS_LIMITS__MAX_CONNECTIONS_PER_CLIENT": "2",
        "DS_SERVER__KEEPALIVE_SECS": "600",
    }
    with running_server(tmp_path, settings) as server:
        server.await_true(lambda: server.request("PUT", "/v1/stream/a").status in (200, 201))
        with holding(server, 2):
            assert is_refused(server, "limits.max_connections_per_client = 2")
            assert server.request("GET", "/readyz").status == 200
            with connected(server, "127.0.0.2") as other:
                other.sendall(b"GET /v1/stream/a HTTP/1.1\r\nHost: x\r\n\r\n")
                assert other.recv(100).startswith(b"HTTP/1.1 200")
        server.await_true(lambda: server.request("GET", "/v1/stream/a").status == 200)


@both_workers
def test_a_full_server_answers_probes_over_tls(
    worker_class: str, tls_files: TlsFiles, tmp_path: Path
) -> None:
    settings = {"DS_SERVER__WORKER_CLASS": worker_class, "DS_SERVER__WORKER_CONNECTIONS": "1"}
    with running_server(tmp_path, settings, tls_files) as server:
        held = server.connect()
        held.request("GET", "/healthz")
        assert held.getresponse().read()
        assert server.request("GET", "/readyz").status == 200
        assert is_refused(server, "server.worker_connections = 1")
        held.close()
