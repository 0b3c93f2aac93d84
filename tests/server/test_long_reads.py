"""Long answers over real connections: whole, or visibly cut short when the stream is deleted while it is read."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.servers import Server, running_server, usual_params

BODY = random.Random(1).randbytes(4_000_000).hex().encode()
"""Far more than the buffers of a connection hold."""
TEXT = {"Content-Type": "text/plain"}

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=usual_params("file-durable"))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("long reads"), request.param.environ) as running:
        yield running


@pytest.fixture
def target(server: Server) -> str:
    path = f"/v1/stream/{uuid4().hex}"
    assert server.request("PUT", path, BODY, TEXT).status == 201
    return path


def test_a_long_stream_is_one_answer(server: Server, target: str) -> None:
    answer = server.request("GET", target)
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(BODY)))
    assert answer.body == BODY


def test_a_stream_that_is_deleted_while_it_is_read_ends_short_of_its_length(
    server: Server, target: str
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 30) as reader:
        reader.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        begun = reader.recv(1000)
        assert server.request("DELETE", target).status == 204
        assert server.request("PUT", target, b"others" * 1_000_000, TEXT).status == 201
        seen = begun + received(reader)
    head, body = seen.split(b"\r\n\r\n", 1)
    assert f"Content-Length: {len(BODY)}".encode() in head
    assert len(body) < len(BODY)
    assert BODY.startswith(body)
    assert "Traceback" not in server.log


def received(reader: socket.socket) -> bytes:
    """All that still comes, until the connection ends in one way or the other."""
    pieces: list[bytes] = []
    try:
        while piece := reader.recv(65_536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)
