"""Request bodies that come cut off, broken, slowly or too large: nothing of them is appended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.server.sockets import Exchange
from tests.servers import Server, running_server, usual_params

BODY_BYTES_MAX = 100_000
HEAD = "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=usual_params())
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "DS_LIMITS__MAX_REQUEST_BODY_BYTES": str(BODY_BYTES_MAX),
        **request.param.environ,
    }
    with running_server(tmp_path_factory.mktemp("bodies"), settings) as running:
        yield running


@pytest.fixture
def target(server: Server) -> Iterator[str]:
    """A stream that holds `kept`, and must hold nothing else at the end of the test."""
    path = f"/v1/stream/bodies/{uuid4().hex}"
    assert server.request("PUT", path, b"kept", {"Content-Type": "text/plain"}).status == 201
    yield path
    assert server.request("GET", path).body == b"kept"
    assert "Traceback" not in server.log


def test_a_body_that_ends_before_its_length_is_refused(server: Server, target: str) -> None:
    with Exchange(server.port) as writer:
        writer.send((HEAD.format(target=target) + "Content-Length: 10\r\n\r\nabc").encode())
        writer.stop_sending()
        assert answered_or_closed(writer) in (400, None)


def test_a_connection_that_breaks_in_the_body_appends_nothing(server: Server, target: str) -> None:
    with Exchange(server.port) as writer:
        writer.send((HEAD.format(target=target) + "Content-Length: 10\r\n\r\nabc").encode())
    assert server.request("GET", "/healthz").status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"3\r\nabc\r\n",
        b"3\r\nabcdef\r\n0\r\n\r\n",
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"5\r\nabc",
    ],
    ids=["no last chunk", "longer than its size", "no number", "negative", "cut off"],
)
def test_a_broken_chunk_is_refused(body: bytes, server: Server, target: str) -> None:
    with Exchange(server.port) as writer:
        writer.send((HEAD.format(target=target) + "Transfer-Encoding: chunked\r\n\r\n").encode() + body)
        writer.stop_sending()
        assert answered_or_closed(writer) in (400, None)


def test_a_body_that_falls_silent_is_answered_408(tmp_path: Path) -> None:
    """On a server of its own: with so short a limit, a slow machine would fall silent in any other test."""
    with running_server(tmp_path, {"DS_SERVER__BODY_TIMEOUT_SECS": "0.05"}) as server:
        assert (
            server.request("PUT", "/v1/stream/silent", headers={"Content-Type": "text/plain"}).status == 201
        )
        with Exchange(server.port) as writer:
            head = HEAD.format(target="/v1/stream/silent") + "Content-Length: 10\r\n\r\nabc"
            writer.send(head.encode())
            assert writer.read_answer()[0] == 408


def test_a_body_over_the_limit_is_refused_by_its_length(server: Server, target: str) -> None:
    with Exchange(server.port) as writer:
        writer.send((HEAD.format(target=target) + f"Content-Length: {BODY_BYTES_MAX + 1}\r\n\r\n").encode())
        assert writer.read_answer()[0] == 413


def test_a_chunked_body_over_the_limit_is_refused_where_it_passes_it(server: Server, target: str) -> None:
    chunk = b"%x\r\n" % 50_000 + b"x" * 50_000 + b"\r\n"
    with Exchange(server.port) as writer:
        writer.send((HEAD.format(target=target) + "Transfer-Encoding: chunked\r\n\r\n").encode())
        writer.send(chunk * 3)
        assert writer.read_answer()[0] == 413


def test_a_body_as_long_as_the_limit_is_taken(server: Server) -> None:
    path = f"/v1/stream/bodies/{uuid4().hex}"
    server.request("PUT", path, headers={"Content-Type": "text/plain"})
    body = b"x" * BODY_BYTES_MAX
    assert server.request("POST", path, body, {"Content-Type": "text/plain"}).status == 204
    assert server.request("GET", path).body == body


def test_a_chunked_body_is_one_append(server: Server) -> None:
    path = f"/v1/stream/bodies/{uuid4().hex}"
    server.request("PUT", path, headers={"Content-Type": "text/plain"})
    head = HEAD.format(target=path) + "Transfer-Encoding: chunked\r\n\r\n"
    with Exchange(server.port) as writer:
        for piece in (head.encode(), b"3\r\nabc\r\n", b"4;note=1\r\ndefg\r\n", b"0\r\n\r\n"):
            writer.send(piece)
        status, headers, _ = writer.read_answer()
    assert status == 204
    read = server.request("GET", path)
    assert read.body == b"abcdefg"
    assert read.headers["Stream-Next-Offset"] == headers["stream-next-offset"]


def test_a_connection_goes_on_after_an_append(server: Server) -> None:
    path = f"/v1/stream/bodies/{uuid4().hex}"
    with Exchange(server.port) as client:
        client.send_request("PUT", path, Content_Type="text/plain")
        assert client.read_answer()[0] == 201
        for piece in (b"one,", b"two,", b"three"):
            client.send_request("POST", path, piece, Content_Type="text/plain")
            assert client.read_answer()[0] == 204
        client.send_request("GET", path)
        assert client.read_answer()[2] == b"one,two,three"


def test_requests_sent_without_waiting_are_answered_in_order(server: Server) -> None:
    path = f"/v1/stream/bodies/{uuid4().hex}"
    with Exchange(server.port) as client:
        client.send_request("PUT", path, Content_Type="text/plain")
        client.send_request("POST", path, b"one,", Content_Type="text/plain")
        client.send_request("POST", path, b"two", Content_Type="text/plain")
        client.send_request("GET", path)
        assert [client.read_answer()[0] for _ in range(3)] == [201, 204, 204]
        assert client.read_answer()[2] == b"one,two"


def answered_or_closed(writer: Exchange) -> int | None:
    """The status of the answer, or None where the server has closed the connection without one."""
    try:
        return writer.read_answer()[0]
    except ConnectionError:
        return None
