"""Readers that wait, over real sockets: what wakes them, what they are told, how their connections end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tests.server.sockets import LAST_CHUNK, Exchange
from tests.servers import Server, ServerKind, running_server, usual_params

TEXT = {"Content-Type": "text/plain"}
WAITING_SECONDS = 3600
READERS = 100

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=usual_params("postgres-3-workers"))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which nothing but an event ends a wait, and whose event streams show that they live."""
    settings = {
        "DS_SERVER__LONG_POLL_TIMEOUT_SECS": str(WAITING_SECONDS),
        "DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "0",
        "DS_SERVER__SSE_HEARTBEAT_SECS": "0.2",
        **request.param.environ,
    }
    with running_server(tmp_path_factory.mktemp("live"), settings) as running:
        yield running


@pytest.fixture
def stream(server: Server) -> str:
    path = f"/v1/stream/live/{uuid4().hex}"
    assert server.request("PUT", path, b"old.", TEXT).status == 201
    return path


def tail_of(server: Server, stream: str) -> str:
    return server.request("HEAD", stream).headers["Stream-Next-Offset"]


def waiting(server: Server, stream: str, mode: str) -> Exchange:
    reader = Exchange(server.port)
    reader.send_request("GET", f"{stream}?offset={tail_of(server, stream)}&live={mode}")
    return reader


def following(server: Server, stream: str, offset: str = "-1") -> Exchange:
    """A reader of the event stream that has had all there is."""
    reader = Exchange(server.port)
    reader.send_request("GET", f"{stream}?offset={offset}&live=sse")
    while (
        '"upToDate":true'
        not in reader.read_until(b"event: control").decode() + reader.read_until(b"\n\n").decode()
    ):
        pass
    return reader


def event_lines(raw: bytes) -> list[str]:
    """The lines of an event stream, without the framing of chunks and without comments."""
    text = re.sub(rb"(?:^|\r\n)[0-9a-f]+\r\n", b"", raw).decode()
    return [line for line in text.split("\n") if line and not line.startswith(":")]


@pytest.mark.parametrize("mode", ["long-poll", "sse"])
def test_a_delete_ends_the_wait(mode: str, server: Server, stream: str) -> None:
    reader = following(server, stream) if mode == "sse" else waiting(server, stream, mode)
    with reader:
        _let_it_wait(server)
        assert server.request("DELETE", stream).status == 204
        if mode == "sse":
            reader.read_to_end()
        else:
            assert reader.read_answer()[0] in (404, 410)


def test_an_append_answers_a_long_poll(server: Server, stream: str) -> None:
    with waiting(server, stream, "long-poll") as reader:
        _let_it_wait(server)
        appended = server.request("POST", stream, b"new", TEXT)
        status, headers, body = reader.read_answer()
    assert (status, body) == (200, b"new")
    assert headers["stream-next-offset"] == appended.headers["Stream-Next-Offset"]


def test_a_close_without_data_answers_a_long_poll(server: Server, stream: str) -> None:
    with waiting(server, stream, "long-poll") as reader:
        _let_it_wait(server)
        assert server.request("POST", stream, headers={"Stream-Closed": "true"}).status == 204
        status, headers, body = reader.read_answer()
    assert (status, body, headers.get("stream-closed")) == (204, b"", "true")


def test_a_close_without_data_ends_an_event_stream_with_a_last_control(server: Server, stream: str) -> None:
    with following(server, stream) as reader:
        server.request("POST", stream, headers={"Stream-Closed": "true"})
        rest = reader.read_to_end()
    *_, last = [line for line in event_lines(rest) if line.startswith("data:")]
    assert json.loads(last.removeprefix("data:"))["streamClosed"] is True


def test_every_data_event_is_followed_by_its_control(server: Server, stream: str) -> None:
    with following(server, stream) as reader:
        for number in range(5):
            server.request("POST", stream, b"piece %d\n" % number, TEXT)
        server.request("POST", stream, b"end", TEXT | {"Stream-Closed": "true"})
        kinds = [
            line.partition(":")[2].strip()
            for line in event_lines(reader.read_to_end())
            if line.startswith("event:")
        ]
    assert kinds
    assert kinds == ["data", "control"] * (len(kinds) // 2)


def test_one_append_reaches_every_reader_that_waits(server: Server, stream: str) -> None:
    with ExitStack() as readers:
        polls = [readers.enter_context(waiting(server, stream, "long-poll")) for _ in range(READERS)]
        events = [readers.enter_context(following(server, stream)) for _ in range(READERS)]
        server.request("POST", stream, b"for all", TEXT)
        assert {reader.read_answer()[2] for reader in polls} == {b"for all"}
        for reader in events:
            assert b"for all" in reader.read_until(b"event: control")


def test_a_silent_event_stream_shows_that_it_lives(server: Server, stream: str) -> None:
    with following(server, stream) as reader:
        beats = reader.read_until(b"\n\n") + reader.read_until(b"\n\n")
    assert event_lines(beats) == []
    assert beats.count(b":") >= 2


def test_a_character_that_comes_in_two_appends_is_not_split_between_events(
    server: Server, stream: str
) -> None:
    letter = "語".encode()
    with following(server, stream) as reader:
        server.request("POST", stream, b"before " + letter[:2], TEXT)
        server.request("POST", stream, letter[2:] + b" after", TEXT)
        server.request("POST", stream, headers={"Stream-Closed": "true"})
        rest = reader.read_to_end()
    text = rest.decode()  # Raises where an event, or a chunk, cuts the letter.
    assert "\ufffd" not in text
    assert "語" in text


def test_a_reader_that_vanishes_disturbs_nobody(server: Server, stream: str) -> None:
    with following(server, stream) as stays:
        for mode in ("long-poll", "sse"):
            waiting(server, stream, mode).__exit__(None, None, None)
        server.request("POST", stream, b"still here", TEXT)
        assert b"still here" in stays.read_until(b"event: control")
    assert "Traceback" not in server.log


@pytest.mark.parametrize("kind", usual_params())
def test_an_event_stream_ends_after_its_time_at_the_end_of_an_event(kind: ServerKind, tmp_path: Path) -> None:
    settings = {"DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "0.5", **kind.environ}
    with running_server(tmp_path, settings) as server:
        server.request("PUT", "/v1/stream/ends", b"text", TEXT)
        with Exchange(server.port) as reader:
            reader.send_request("GET", "/v1/stream/ends?offset=-1&live=sse")
            everything = reader.read_until(b"\r\n\r\n") + reader.read_until(b"\n\n" + LAST_CHUNK)
    assert b"streamClosed" not in everything


def _let_it_wait(server: Server) -> None:
    """Requests are read in the order of their arrival: once this one is answered, those before are known."""
    assert server.request("GET", "/healthz").status == 200
