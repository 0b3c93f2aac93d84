"""POST (sections 5.2, 5.2.1 and 5.3): statuses, the protocol's headers, and that a refusal changes nothing."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from durable_streams.protocol.offsets import format_offset
from durable_streams.storage.rows import to_row
from tests.web.conftest import OpenServer
from tests.web.driving import BYTES, CLOSE, JSON, START, TEXT, Headers, Server


def producer(epoch: int | str, seq: int | str, name: str = "p") -> Headers:
    return {"Producer-Id": name, "Producer-Epoch": str(epoch), "Producer-Seq": str(seq)}


@pytest.fixture
def stream(server: Server) -> Server:
    server.put("s", headers=TEXT)
    return server


def test_an_append_is_answered_with_the_new_tail(stream: Server) -> None:
    answer = stream.post("s", b"abc", TEXT)
    assert (answer.status_int, answer.body) == (204, b"")
    assert answer.headers["Stream-Next-Offset"] == stream.tail("s")
    assert "Stream-Closed" not in answer.headers
    assert stream.get(f"s?offset={answer.headers['Stream-Next-Offset']}").body == b""


@pytest.mark.parametrize("value", ["text/plain", "TEXT/PLAIN", "text/plain;charset=utf-8", " text/plain "])
def test_content_types_are_compared_without_case_and_parameters(stream: Server, value: str) -> None:
    assert stream.post("s", b"x", {"Content-Type": value}).status_int == 204


def test_a_body_needs_a_content_type(stream: Server) -> None:
    answer = stream.post("s", b"x")
    assert (answer.status_int, answer.json["code"]) == (400, "BAD_REQUEST")


def test_closing_needs_neither_a_body_nor_a_fitting_content_type(stream: Server) -> None:
    stream.post("s", b"abc", TEXT)
    for _ in range(2):
        answer = stream.post("s", b"", {**CLOSE, "Content-Type": "not even a type"})
        assert (answer.status_int, answer.headers["Stream-Closed"]) == (204, "true")
        assert answer.headers["Stream-Next-Offset"] == stream.tail("s")


def test_an_append_may_close_and_is_then_refused_when_repeated(stream: Server) -> None:
    answer = stream.post("s", b"end", {**TEXT, **CLOSE})
    assert (answer.status_int, answer.headers["Stream-Closed"]) == (204, "true")
    for headers in (TEXT, {**TEXT, **CLOSE}, JSON, {**TEXT, "Stream-Seq": "1"}):
        refusal = stream.post("s", b"end", headers)
        assert (refusal.status_int, refusal.json["code"]) == (409, "STREAM_CLOSED")
        assert refusal.headers["Stream-Closed"] == "true"
        assert refusal.headers["Stream-Next-Offset"] == answer.headers["Stream-Next-Offset"]
    assert stream.get("s").body == b"end"


@pytest.mark.parametrize("value", ["false", "yes", "1", ""])
def test_other_values_of_stream_closed_close_nothing(stream: Server, value: str) -> None:
    assert stream.post("s", b"x", {**TEXT, "Stream-Closed": value}).status_int == 204
    assert stream.post("s", b"", {"Stream-Closed": value}).json["code"] == "EMPTY_BODY"
    assert "Stream-Closed" not in stream.head("s").headers


def test_stream_seq_grows_byte_by_byte(stream: Server) -> None:
    for seq in ("10", "9", "a", "\u00e9"):
        assert stream.post("s", b"x", {**TEXT, "Stream-Seq": seq}).status_int == 204
    for seq in ("\u00e9", "z", "10", ""):
        refusal = stream.post("s", b"x", {**TEXT, "Stream-Seq": seq})
        assert (refusal.status_int, refusal.json["code"]) == (409, "SEQUENCE_CONFLICT")


def test_the_answers_to_a_producer(stream: Server) -> None:
    """The table of section 5.2.1, as a client sees it."""

    def answer_to(epoch: int, seq: int) -> tuple[int, dict[str, str]]:
        answer = stream.post("s", b"x", {**TEXT, **producer(epoch, seq)})
        return answer.status_int, {k: v for k, v in answer.headers.items() if k.startswith("Producer-")}

    assert answer_to(0, 1) == (409, {"Producer-Expected-Seq": "0", "Producer-Received-Seq": "1"})
    assert answer_to(0, 0) == (200, {"Producer-Epoch": "0", "Producer-Seq": "0"})
    assert answer_to(0, 0) == (204, {"Producer-Epoch": "0", "Producer-Seq": "0"})
    assert answer_to(0, 1) == (200, {"Producer-Epoch": "0", "Producer-Seq": "1"})
    assert answer_to(0, 2) == (200, {"Producer-Epoch": "0", "Producer-Seq": "2"})
    # A duplicate is answered with the highest number, whichever was repeated.
    assert answer_to(0, 1) == (204, {"Producer-Epoch": "0", "Producer-Seq": "2"})
    assert answer_to(0, 9) == (409, {"Producer-Expected-Seq": "3", "Producer-Received-Seq": "9"})
    assert answer_to(5, 1) == (400, {})
    assert answer_to(5, 0) == (200, {"Producer-Epoch": "5", "Producer-Seq": "0"})
    assert answer_to(4, 0) == (403, {"Producer-Epoch": "5"})
    assert stream.get("s").body == b"xxxx"


def test_a_closing_batch_may_be_repeated_and_no_other(stream: Server) -> None:
    closing = {**TEXT, **CLOSE, **producer(0, 0)}
    assert stream.post("s", b"end", closing).status_int == 200
    for _ in range(2):
        again = stream.post("s", b"end", closing)
        assert (again.status_int, again.headers["Stream-Closed"]) == (204, "true")
        assert (again.headers["Producer-Epoch"], again.headers["Producer-Seq"]) == ("0", "0")
    for other in (producer(0, 1), producer(1, 0), producer(0, 0, "q")):
        refusal = stream.post("s", b"", {**CLOSE, **other})
        assert (refusal.status_int, refusal.headers["Stream-Closed"]) == (409, "true")
    assert stream.get("s").body == b"end"


def test_closing_without_data_as_a_producer_is_a_204_that_names_it(stream: Server) -> None:
    for _ in range(2):
        answer = stream.post("s", b"", {**CLOSE, **producer(3, 0)})
        assert (answer.status_int, answer.headers["Producer-Epoch"]) == (204, "3")


BIG = 2**53 - 1

WRONG_PRODUCERS: list[Headers] = [
    {"Producer-Id": "p"},
    {"Producer-Epoch": "0"},
    {"Producer-Seq": "0"},
    {"Producer-Id": "p", "Producer-Epoch": "0"},
    {"Producer-Epoch": "0", "Producer-Seq": "0"},
    producer(0, 0, ""),
    producer(0, 0, "  "),
    *(producer(epoch, 0) for epoch in ("", "-1", "1.0", "x", "1e3", "00", "+1", BIG + 1, "9" * 500)),
    *(producer(0, seq) for seq in ("", "-1", "1.0", "x", "00", BIG + 1)),
]


@pytest.mark.parametrize("headers", WRONG_PRODUCERS)
def test_wrong_producer_headers_are_refused(stream: Server, headers: Headers) -> None:
    refusal = stream.post("s", b"x", {**TEXT, **headers})
    assert (refusal.status_int, refusal.json["code"]) == (400, "BAD_REQUEST")
    assert stream.get("s").body == b""


def test_the_largest_numbers_are_accepted(stream: Server) -> None:
    answer = stream.post("s", b"x", {**TEXT, **producer(BIG, 0)})
    assert (answer.status_int, answer.headers["Producer-Epoch"]) == (200, str(BIG))


def test_json_messages_come_back_token_for_token(server: Server) -> None:
    texts = [
        b"123456789012345678901234567890",
        b"1.0",
        b"1e400",
        b'{"b":1,"a":2,"b":3}',
        b'"\\u00e9\\/\\ud800\\n"',
        '"\u00e9\u2028"'.encode(),
        b"[]",
        b"-0",
    ]
    server.put("s", b"[]", JSON)
    for text in texts:
        server.post("s", b"[%b]" % text, JSON)
    server.post("s", b"[%b]" % b" , ".join(texts), JSON)
    assert server.get("s").body == b"[" + b",".join(texts * 2) + b"]"


def test_a_long_body_is_taken_while_others_go_on_and_in_its_turn(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two long bodies: both give turns, and the second one is not begun before the first is done."""
    monkeypatch.setattr("durable_streams.streams.splitting.TURN_S", 0.0)
    server.put("s", b"[]", JSON)
    long = b"[" + b"1, " * 90_000 + b"1]"
    answered: list[str] = []

    def post(name: str, body: bytes) -> None:
        assert server.post("s", body, JSON).status_int == 204
        answered.append(name)

    greenlets = [gevent.spawn(post, name, long) for name in ("first", "second")]
    gevent.sleep(0)
    greenlets.append(gevent.spawn(post, "short", b"2"))
    gevent.joinall(greenlets, raise_error=True)
    assert answered == ["short", "first", "second"]
    assert server.get("s").body[:5] == b"[2,1,"


def test_what_is_wrong_with_a_body_is_said_after_what_is_wrong_with_the_request(server: Server) -> None:
    server.put("s", b"[1]", {**JSON, **producer(0, 0)})
    bad = b"[" + b"1," * 50_000 + b"]"
    assert server.post("nobody", bad, JSON).status_int == 404
    assert server.post("s", bad, TEXT).json["code"] == "CONTENT_TYPE_MISMATCH"
    assert server.post("s", bad, {**JSON, **producer(0, 5)}).json["code"] == "SEQUENCE_CONFLICT"
    assert server.post("s", bad, JSON).json["code"] == "INVALID_JSON"
    server.post("s", headers=CLOSE)
    assert server.post("s", bad, JSON).json["code"] == "STREAM_CLOSED"
    assert server.put("s", bad, {**JSON, **CLOSE}).status_int == 200
    assert server.put("new", bad, JSON).json["code"] == "INVALID_JSON"
    assert server.put("fork", bad, {"Stream-Forked-From": "s"}).json["code"] == "INVALID_JSON"
    assert server.get("new").status_int == server.get("fork").status_int == 404


@pytest.mark.parametrize("limit", [0, 2, 50_000])
def test_messages_in_one_request_have_a_limit(open_server: OpenServer, limit: int) -> None:
    server = open_server(limits={"max_messages_per_request": limit})
    server.put("s", b"[]", JSON)
    for count in (limit or 70_000, limit + 1):
        body = b"[" + b",".join([b"{}"] * count) + b"]"
        expected = (204, "") if not limit or count <= limit else (413, "TOO_MANY_MESSAGES")
        for answer in (server.post("s", body, JSON), server.put(f"created {count}", body, JSON)):
            assert answer.status_int in (201, expected[0])
            assert answer.status_int != 413 or answer.json["code"] == expected[1]
    created = server.put("with too many", b"[" + b"1," * (limit + 1) + b"1]", JSON)
    assert created.status_int == (413 if limit else 201)


def test_racing_writers_close_once_and_lose_nothing(server: Server) -> None:
    """Whoever closes does so in the step that appends: after the closing bytes there are no others."""
    server.put("s", headers=TEXT)
    writers = [
        gevent.spawn(server.post, "s", b"%02d." % number, {**TEXT, **(CLOSE if number == 12 else {})})
        for number in range(25)
    ]
    gevent.joinall(writers, raise_error=True)
    accepted = [n for n, writer in enumerate(writers) if writer.value.status_int == 204]
    body = server.get("s").body
    assert sorted(body.decode().split(".")[:-1]) == sorted(f"{number:02d}" for number in accepted)
    assert body.endswith(b"12.")


# -- a refused request changes nothing -----------------------------------------------------------------------------

LIMITS = {"max_stream_bytes": 100, "max_request_body_bytes": 1000, "max_memory_bytes": 150}
NEXT = producer(2, 1)
BEYOND = format_offset(int(START) * 1_000_000, 99)
"""Of the first stream that is created there."""

REFUSALS: dict[str, tuple[int, dict[str, Any]]] = {
    "empty body": (400, {"headers": {**TEXT, **NEXT, "Stream-Seq": "z"}}),
    "no content type": (400, {"body": b"x", "headers": NEXT}),
    "bad content type": (400, {"body": b"x", "headers": {**NEXT, "Content-Type": "text"}}),
    "other content type": (409, {"body": b"x", "headers": {**BYTES, **NEXT, "Stream-Seq": "z", **CLOSE}}),
    "producer fenced": (403, {"body": b"x", "headers": {**TEXT, **producer(1, 0), **CLOSE}}),
    "producer gap": (409, {"body": b"x", "headers": {**TEXT, **producer(2, 7), "Stream-Seq": "z", **CLOSE}}),
    "new epoch, wrong start": (400, {"body": b"x", "headers": {**TEXT, **producer(9, 1), **CLOSE}}),
    "unknown producer, wrong start": (409, {"body": b"x", "headers": {**TEXT, **producer(0, 1, "q")}}),
    "half a producer": (400, {"body": b"x", "headers": {**TEXT, "Producer-Id": "p"}}),
    "stream seq": (409, {"body": b"x", "headers": {**TEXT, **NEXT, "Stream-Seq": "m", **CLOSE}}),
    "stream seq, new epoch": (409, {"body": b"x", "headers": {**TEXT, **producer(3, 0), "Stream-Seq": "a"}}),
    "stream too large": (413, {"body": b"x" * 99, "headers": {**TEXT, **NEXT, "Stream-Seq": "z", **CLOSE}}),
    "memory full": (413, {"body": b"x" * 90, "headers": {**TEXT, **NEXT, "Stream-Seq": "z", **CLOSE}}),
    "body too large": (413, {"body": b"x" * 1001, "headers": {**TEXT, **NEXT, **CLOSE}}),
    "closed": (409, {"target": "closed", "body": b"x", "headers": {**TEXT, **NEXT, "Stream-Seq": "z"}}),
    "json": (400, {"target": "json", "body": b"[1,", "headers": {**JSON, **producer(0, 0), **CLOSE}}),
    "empty array": (400, {"target": "json", "body": b"[]", "headers": {**JSON, **producer(0, 0), **CLOSE}}),
    "nobody": (404, {"target": "nobody", "body": b"x", "headers": {**TEXT, **CLOSE}}),
    "put of another kind": (409, {"method": "PUT", "body": b"x", "headers": JSON}),
    "patch": (405, {"method": "PATCH", "body": b"x", "headers": TEXT}),
    "unknown live mode": (400, {"method": "GET", "target": "s?offset=-1&live=ws"}),
    "offset of no form": (400, {"method": "GET", "target": "s?offset=abc"}),
    "offset beyond the tail": (400, {"method": "GET", "target": f"s?offset={BEYOND}"}),
    "long-poll beyond the tail": (400, {"method": "GET", "target": f"s?offset={BEYOND}&live=long-poll"}),
    "events beyond the tail": (400, {"method": "GET", "target": f"s?offset={BEYOND}&live=sse"}),
    "delete of nobody": (404, {"method": "DELETE", "target": "nobody"}),
}


def everything(server: Server) -> dict[str, Any]:
    storage = server.store.storage
    found = {}
    for name in storage.names("", "", 1000):
        state = storage.known(name)
        assert state is not None
        found[name] = to_row(state), storage.read(state, state.config.forked_at, state.tail)
    return found


@pytest.mark.parametrize(("status", "request_"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_request_changes_nothing(
    open_server: OpenServer, status: int, request_: dict[str, Any], payload_alone: None
) -> None:
    server = open_server(limits=LIMITS)
    server.put("s", b"abc", {**TEXT, "Stream-TTL": "1000"})
    server.post("s", b"d", {**TEXT, **producer(2, 0), "Stream-Seq": "m"})
    server.put("closed", b"x", {**TEXT, **CLOSE})
    server.put("json", b"[]", JSON)
    server.put("ballast", b"x" * 65, TEXT)
    before = everything(server)
    # Far enough for a touch to be recorded, were one made.
    server.clock.now += 500
    answer = server.request(**{"method": "POST", "target": "s", **request_})
    assert answer.status_int == status
    assert everything(server) == before
    assert server.store._lifetimes._touches.latest("s", server.clock.now) <= server.clock.now - 500
    # What was refused did not use up the producer's next number, or the sequence.
    assert server.post("s", b"e", {**TEXT, **NEXT, "Stream-Seq": "n"}).status_int == 200
