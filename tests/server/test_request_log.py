"""The records of live reads by a real server, whose broadcaster writes past the application."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.server.sockets import Exchange
from tests.servers import SERVER_KINDS, Server, running_server

TEXT = {"Content-Type": "text/plain"}
KINDS = [kind.param() for kind in SERVER_KINDS if kind.environ["DS_STORAGE__MODE"] == "memory"]

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "DS_LOG__FORMAT": "json",
        "RUST_LOG": "info",
        "DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "0",
        **request.param.environ,
    }
    with running_server(tmp_path_factory.mktemp("log"), settings) as running:
        yield running


def following(server: Server, path: str) -> Exchange:
    """A reader that has had the first event, and waits for the next."""
    server.request("PUT", path, b"old", TEXT)
    reader = Exchange(server.port)
    reader.send_request("GET", f"{path}?offset=-1&live=sse")
    reader.read_until(b'"upToDate":true')
    return reader


def end_of(server: Server, path: str) -> dict[str, Any]:
    """The record of the end of the one event stream at ``path``, when it is there."""

    def find() -> dict[str, Any] | None:
        lines = [line for line in server.log.splitlines() if "event stream ended" in line and path in line]
        found: dict[str, Any] | None = json.loads(lines[0]) if lines else None
        return found

    return server.await_true(find)


def payload_bytes(received: bytes) -> int:
    """The bytes of a chunked body, of which ``received`` has everything after the head."""
    size = 0
    while received:
        length, _, rest = received.partition(b"\r\n")
        size += int(length, 16)
        received = rest[int(length, 16) + 2 :]
    return size


def test_an_event_stream_that_is_closed_has_a_record_with_all_its_bytes(server: Server) -> None:
    path = f"/v1/stream/{uuid4().hex}"
    reader = Exchange(server.port)
    with reader:
        server.request("PUT", path, b"old", TEXT)
        reader.send_request("GET", f"{path}?offset=-1&live=sse")
        reader.read_until(b"\r\n\r\n")
        received = reader.read_until(b'"upToDate":true')
        for word in (b"new", b"newer"):
            server.request("POST", path, word, TEXT)
            received += reader.read_until(b"data:" + word)
        server.request("POST", path, headers={"Stream-Closed": "true"})
        received += reader.read_to_end()
    end = end_of(server, path)
    assert (end["ds.live_end"], end["ds.operation"], end["ds.live_mode"]) == (
        "stream closed",
        "subscribe",
        "sse",
    )
    # The broadcaster counts the framing of its chunks too, of a few bytes an event.
    assert 0 <= end["http.response.body.bytes"] - payload_bytes(received) < 40
    assert end["event.duration"] > 0


def test_a_reader_that_hangs_up_has_a_record_too(server: Server) -> None:
    path = f"/v1/stream/{uuid4().hex}"
    with following(server, path):
        pass
    assert end_of(server, path)["ds.live_end"] == "client gone"


def test_a_deleted_stream_says_so_to_the_log(server: Server) -> None:
    path = f"/v1/stream/{uuid4().hex}"
    with following(server, path) as reader:
        server.request("DELETE", path)
        reader.read_to_end()
    assert end_of(server, path)["ds.live_end"] == "stream deleted"
