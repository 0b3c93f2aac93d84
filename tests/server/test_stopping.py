"""How the server ends: SIGTERM lets every answer that was begun come to its end, and is quick about it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.sockets import LAST_CHUNK, Exchange
from tests.servers import Server, running_server

WAITING_SECONDS = 3600

pytestmark = pytest.mark.server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    # Nothing but the stop may end a waiting reader in these tests.
    settings = {
        "DS_SERVER__LONG_POLL_TIMEOUT_SECS": str(WAITING_SECONDS),
        "DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "0",
        "DS_SERVER__SHUTDOWN_GRACE_SECS": "20",
    }
    with running_server(tmp_path, settings) as running:
        yield running


def test_a_stop_without_work_has_exit_code_0(server: Server) -> None:
    assert server.terminate() == 0
    assert "stopped" in server.log


def test_a_stop_answers_long_polls_that_wait(server: Server) -> None:
    tail = server.request("PUT", "/v1/stream/waits").headers["Stream-Next-Offset"]
    with Exchange(server.port) as waiting, Exchange(server.port) as second:
        waiting.send_request("GET", f"/v1/stream/waits?offset={tail}&live=long-poll")
        second.send_request("GET", f"/v1/stream/waits?offset={tail}&live=sse")
        # The event stream begins at once, and a server that serves it has seen the earlier request.
        second.read_until(b"event: control")
        assert server.terminate() == 0
        status, headers, _ = waiting.read_answer()
        assert status == 204
        assert headers["stream-next-offset"] == tail


def test_a_stop_ends_event_streams_at_the_end_of_an_event(server: Server) -> None:
    server.request("PUT", "/v1/stream/told", b"before", {"Content-Type": "text/plain"})
    with Exchange(server.port) as reader:
        reader.send_request("GET", "/v1/stream/told?offset=-1&live=sse")
        reader.read_until(b"event: control")
        assert server.terminate() == 0
        # The last chunk must come, or a proxy takes the answer for a broken one.
        assert reader.read_to_end().endswith(b"\n\n" + LAST_CHUNK)


def test_an_append_that_was_begun_before_the_stop_is_answered(server: Server) -> None:
    server.request("PUT", "/v1/stream/late", headers={"Content-Type": "text/plain"})
    with Exchange(server.port) as writer:
        writer.send(b"POST /v1/stream/late HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n")
        writer.send(b"Content-Length: 6\r\n\r\nabc")
        # The server has the beginning of the request once it answers a later one.
        assert server.request("GET", "/healthz").status == 200
        server.process.send_signal(signal.SIGTERM)
        writer.send(b"def")
        status, _, _ = writer.read_answer()
    assert status == 204
    assert server.process.wait(30) == 0


def test_a_second_signal_does_not_turn_an_orderly_stop_into_a_failure(server: Server) -> None:
    codes: list[int] = []
    waiter = threading.Thread(target=lambda: codes.append(server.process.wait(30)))
    waiter.start()
    server.process.send_signal(signal.SIGTERM)
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
    waiter.join(180)
    assert codes == [0]
