"""Counts and lengths that are kept, and bodies in flight: what is refused, and that nothing is changed."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from webtest import TestResponse

from durable_streams.web.bodies import HELD_BYTES, InFlight
from tests.web.conftest import OpenServer
from tests.web.driving import BASE, TEXT, Headers, Server
from tests.web.test_appending import producer


def says_limit(answer: TestResponse, setting: str) -> bool:
    return (answer.status_int, answer.json["code"], answer.json["detail"]) == (
        429,
        "LIMIT_REACHED",
        f"{setting} is reached",
    )


def test_streams_are_counted_as_they_come_and_go(open_server: OpenServer) -> None:
    server = open_server(limits={"max_streams": 2})
    for name in ("a", "b"):
        assert server.put(name, headers=TEXT).status_int == 201
    assert says_limit(server.put("c", headers=TEXT), "limits.max_streams = 2")
    assert says_limit(server.put("c", headers={"Stream-Forked-From": "a"}), "limits.max_streams = 2")
    # One that is there is not made.
    assert server.put("a", headers=TEXT).status_int == 200
    assert server.post("a", b"x", TEXT).status_int == 204
    assert server.delete("a").status_int == 204
    assert server.put("c", headers={**TEXT, "Stream-TTL": "10"}).status_int == 201
    assert says_limit(server.put("d", headers=TEXT), "limits.max_streams = 2")
    server.clock.now += 11
    assert server.store.sweep() == 1
    assert server.put("d", headers=TEXT).status_int == 201


def test_producers_of_a_stream_are_counted(open_server: OpenServer) -> None:
    server = open_server(limits={"max_producers_per_stream": 2})
    server.put("s", headers=TEXT)
    for name in ("p", "q"):
        assert server.post("s", b"x", {**TEXT, **producer(0, 0, name)}).status_int == 200
    refusal = server.post("s", b"x", {**TEXT, **producer(0, 0, "r")})
    assert says_limit(refusal, "limits.max_producers_per_stream = 2")
    assert server.post("s", b"x", {**TEXT, **producer(0, 1, "p")}).status_int == 200
    assert server.post("s", b"x", {**TEXT, **producer(0, 1, "p")}).status_int == 204
    assert server.post("s", b"x", TEXT).status_int == 204
    assert server.get("s").body == b"xxxx"


def test_forks_of_a_stream_are_counted(open_server: OpenServer) -> None:
    server = open_server(limits={"max_forks_per_stream": 2})
    server.put("s", headers=TEXT)
    for name in ("a", "b"):
        assert server.put(name, headers={"Stream-Forked-From": "s"}).status_int == 201
    refusal = server.put("c", headers={"Stream-Forked-From": "s"})
    assert says_limit(refusal, "limits.max_forks_per_stream = 2")
    assert server.head("c").status_int == 404
    server.delete("a")
    assert server.put("c", headers={"Stream-Forked-From": "s"}).status_int == 201


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("Producer-Id", lambda text: {**TEXT, **producer(0, 0, text)}),
        ("Stream-Seq", lambda text: {**TEXT, "Stream-Seq": text}),
        ("Content-Type", lambda text: {"Content-Type": "text/plain; x=" + text[14:]}),
    ],
)
def test_values_that_are_kept_have_a_length(server: Server, name: str, headers: Any) -> None:
    server.put("s", headers=TEXT)
    assert server.post("s", b"x", headers("v" * 256)).status_int in (200, 204)
    refusal = server.post("s", b"x", headers("v" * 257))
    assert (refusal.status_int, refusal.json["code"]) == (400, "BAD_REQUEST")
    assert f"{name}: it is longer than 256 characters" in refusal.json["detail"]
    assert server.get("s").body == b"x"


class Arriving(BytesIO):
    """A body of which parts arrive while it is read; ``read_bytes`` of it have been asked for."""

    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def sending(server: Server, size: int, *, chunked: bool = False) -> tuple[TestResponse, Arriving]:
    body = Arriving(bytes(size))
    length: Headers = {"HTTP_TRANSFER_ENCODING": "chunked"} if chunked else {"CONTENT_LENGTH": str(size)}
    if chunked:
        length["CONTENT_LENGTH"] = ""
    environ = {"wsgi.input": body, **length}
    answer = server._app.request(BASE + "s", method="POST", headers=TEXT, environ=environ, status="*")
    return answer, body


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_in_flight_are_counted_while_they_are_read_and_written(
    open_server: OpenServer, chunked: bool
) -> None:
    server = open_server(limits={"max_inflight_body_bytes": 1000})
    server.put("s", headers=TEXT)
    for _ in range(3):
        answer, _ = sending(server, 1000, chunked=chunked)
        assert answer.status_int == 204
    answer, body = sending(server, 1001, chunked=chunked)
    assert (answer.status_int, answer.headers["Retry-After"]) == (503, "1")
    assert chunked or body.read_bytes == 0
    assert len(server.get("s").body) == 3000


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_memory_has_no_room_for_is_not_read(open_server: OpenServer, chunked: bool) -> None:
    server = open_server(limits={"max_memory_bytes": 5000})
    server.put("s", bytes(4000), TEXT)
    room = 5000 - server.store.writes.budget.total
    answer, body = sending(server, room + 1, chunked=chunked)
    assert (answer.status_int, answer.json["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert chunked or body.read_bytes == 0
    assert sending(server, room, chunked=chunked)[0].status_int == 204


def test_what_one_request_has_taken_is_given_back_at_once() -> None:
    in_flight = InFlight(100)
    first: dict[str, Any] = {}
    in_flight.take(first, 30)
    in_flight.take(first, 20)
    in_flight.take({}, 40)
    assert (in_flight.total, first[HELD_BYTES]) == (90, 50)
    in_flight.release(first)
    in_flight.release(first)
    assert in_flight.total == 40
