"""What the HTTP parser refuses is refused as everything else: problem+json, on both workers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

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
    "a line that is too long": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
}


@pytest.fixture(scope="module", params=["stream", "gevent"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("refusals"), {"DS_SERVER__WORKER_CLASS": request.param}
    ) as running:
        yield running


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_answered_with_a_problem(server: Server, case: str) -> None:
    request, status = REFUSED[case]
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire,
        wire.makefile("rb") as reader,
    ):
        wire.sendall(request)
        head = b"".join(iter(reader.readline, b"\r\n"))
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        problem = json.loads(reader.read(length))
    assert b"content-type: application/problem+json" in head.lower()
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
