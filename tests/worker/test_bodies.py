"""Bodies that come in parts, cut off, slowly, too large or not at all, on both ways through the worker."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from durable_streams.app import create_app
from durable_streams.config import Config
from durable_streams.config.settings import LimitSettings, ServerSettings
from durable_streams.worker.bodies import UNREAD_BYTES_MAX, BodyTimeout, ClientDisconnected
from tests.worker.in_process import Conversation, answers_in, converse, stream_worker
from tests.worker.request_samples import CHUNKED, get, post

NEXT = get(b"/next")
# A field that makes a request unusual, so that gunicorn's parser reads it.
UNUSUAL = b"X_Unusual: 1\r\n"

both_ways = pytest.mark.parametrize("way", [b"", UNUSUAL], ids=["plain", "unusual"])


class Reading:
    """An application that reads its body in one way, and remembers what came of it."""

    def __init__(self, read: Any) -> None:
        self._read = read
        self.outcomes: list[Any] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/next":
            start_response("200 OK", [])
            return [b"next"]
        try:
            self.outcomes.append(self._read(environ["wsgi.input"]))
        except Exception as error:
            self.outcomes.append(type(error))
            raise
        start_response("200 OK", [])
        return [b"read"]


def statuses(seen: bytes) -> list[int]:
    return [answer.status for answer in answers_in(seen)]


READS = {
    "read": (lambda source: source.read(), b"one\ntwo\nthree"),
    "read(-1)": (lambda source: source.read(-1), b"one\ntwo\nthree"),
    "read by length": (lambda source: source.read(13), b"one\ntwo\nthree"),
    "read more": (lambda source: source.read(100), b"one\ntwo\nthree"),
    "read by pieces": (lambda source: b"|".join(iter(lambda: source.read(5), b"")), b"one\nt|wo\nth|ree"),
    "readline": (lambda source: [source.readline(), source.readline(2)], [b"one\n", b"tw"]),
    "readlines": (lambda source: source.readlines(), [b"one\n", b"two\n", b"three"]),
    "lines": (list, [b"one\n", b"two\n", b"three"]),
    "behind the end": (lambda source: [source.read(), source.read(), source.read(1)], [b"one\ntwo\nthree", b"", b""]),
}  # fmt: skip


@both_ways
@pytest.mark.parametrize("name", READS)
def test_a_body_that_comes_in_parts_can_be_read_in_every_way(name: str, way: bytes) -> None:
    read, expected = READS[name]
    app = Reading(read)
    head = post(b"Content-Length: 13\r\n" + way)
    seen = converse(stream_worker(app), head, b"one\nt", b"wo\n", b"three", NEXT)
    assert app.outcomes == [expected]
    assert statuses(seen) == [200, 200]


@both_ways
@pytest.mark.parametrize("name", READS)
def test_an_application_never_takes_a_body_that_was_cut_off_for_a_whole_one(name: str, way: bytes) -> None:
    app = Reading(READS[name][0])
    seen = converse(stream_worker(app), post(b"Content-Length: 13\r\n" + way), b"one", b"\nt")
    if name == "readline":
        # Only the second line is cut, and its two bytes are there... but one of them is missing.
        assert app.outcomes == [ClientDisconnected]
    assert app.outcomes == [ClientDisconnected]
    assert seen == b""


@pytest.mark.parametrize("fields", [b"Content-Length: 13\r\n", b"Content-Length: 13\r\n" + UNUSUAL, CHUNKED])
def test_a_body_that_trickles_is_an_error_in_time(fields: bytes) -> None:
    app = Reading(lambda source: source.read())
    worker = stream_worker(app)
    worker.body_timeout_s = 0.02
    conversation = Conversation(worker)
    conversation.send(post(fields, b"3\r\n"))
    seen = conversation.receive_all()
    assert app.outcomes == [BodyTimeout]
    assert statuses(seen) in ([408], [])
    assert statuses(seen) == [408] or fields != b"Content-Length: 13\r\n"
    conversation.finish()


@both_ways
def test_an_application_may_answer_a_slow_body_itself(way: bytes) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except TimeoutError:
            start_response("408 Request Timeout", [])
            return [b"mine"]
        raise AssertionError

    worker = stream_worker(app)
    worker.body_timeout_s = 0.02
    conversation = Conversation(worker)
    conversation.send(post(b"Content-Length: 13\r\n" + way, b"abc"))
    (answer,) = answers_in(conversation.receive_all())
    assert (answer.status, answer.body) == (408, b"mine")
    conversation.finish()


def refusing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] == "/next":
        start_response("200 OK", [])
    else:
        start_response("413 Content Too Large", [])
    return [b"said"]


LARGE = b"Content-Length: 1000000000\r\n"


@both_ways
@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_a_large_body_that_nobody_reads_is_neither_asked_for_nor_waited_for(
    expect: bytes, way: bytes
) -> None:
    conversation = Conversation(stream_worker(refusing))
    conversation.send(post(LARGE + expect + way))
    (answer,) = answers_in(conversation.receive_all())
    assert (answer.status, answer.fields["connection"]) == (413, "close")
    conversation.finish()


@both_ways
def test_the_answer_arrives_though_the_client_goes_on_sending(way: bytes) -> None:
    conversation = Conversation(stream_worker(refusing))
    sender = gevent.spawn(conversation.sock.sendall, post(LARGE + way, b"x" * 10_000_000))
    (answer,) = answers_in(conversation.receive_all())
    assert answer.status == 413
    sender.join(20)
    conversation.finish()


@both_ways
def test_a_small_body_that_nobody_reads_is_thrown_away(way: bytes) -> None:
    length = b"Content-Length: %d\r\n" % UNREAD_BYTES_MAX
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".ljust(UNREAD_BYTES_MAX, b"x")
    worker = stream_worker(refusing)
    assert statuses(converse(worker, post(length + way, body + NEXT))) == [413, 200]
    assert statuses(converse(worker, post(length + way), body[:99], body[99:] + NEXT)) == [413, 200]


def test_chunks_that_nobody_reads_end_the_connection() -> None:
    seen = converse(stream_worker(refusing), post(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n" + NEXT))
    assert statuses(seen) == [413]


@both_ways
def test_a_body_read_in_part_leaves_the_next_request_whole(way: bytes) -> None:
    app = Reading(lambda source: source.read(3))
    seen = converse(stream_worker(app), post(b"Content-Length: 13\r\n" + way), b"one\ntwo\n", b"three" + NEXT)
    assert app.outcomes == [b"one"]
    assert statuses(seen) == [200, 200]


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (b"Content-Length: 5\r\n", b"hello"),
        (b"Content-Length: 5\r\n" + UNUSUAL, b"hello"),
        (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"),
    ],
    ids=["plain", "unusual", "chunks"],
)
def test_a_body_is_asked_for_when_the_application_begins_to_read(fields: bytes, body: bytes) -> None:
    app = Reading(lambda source: source.read())
    conversation = Conversation(stream_worker(app))
    conversation.send(post(fields + b"Expect: 100-continue\r\n"))
    assert conversation.sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert app.outcomes == []
    conversation.send(body + NEXT)
    assert statuses(conversation.finish()) == [200, 200]
    assert app.outcomes == [b"hello"]


@both_ways
def test_nobody_who_was_not_told_to_send_is_taken_for_having_sent(way: bytes) -> None:
    """A client that got its answer instead of `100 Continue` sends its next request, or the body: who knows."""
    head = post(b"Content-Length: 5\r\nExpect: 100-continue\r\n" + way)
    assert statuses(converse(stream_worker(refusing), head, NEXT)) == [413]


def test_others_are_served_while_a_body_is_being_received() -> None:
    worker = stream_worker(Reading(lambda source: source.read()))
    uploading, other = Conversation(worker), Conversation(worker)
    uploading.send(post(b"Content-Length: 10\r\n", b"abc"))
    other.send(NEXT)
    assert statuses(other.finish()) == [200]
    uploading.send(b"defghij")
    assert statuses(uploading.finish()) == [200]


def test_a_body_in_tiny_chunks_does_not_keep_others_waiting() -> None:
    """A chunk costs as much as its bytes do in thousands, and a fast client always has more of them ready."""
    served: list[tuple[str, int]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        served.append((environ["PATH_INFO"], len(environ["wsgi.input"].read())))
        start_response("200 OK", [])
        return [b""]

    worker = stream_worker(app)
    before, uploading, after = (Conversation(worker) for _ in range(3))
    uploading.sock.sendall(post(CHUNKED, b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n") + NEXT)
    for other in (before, after):
        other.sock.sendall(get(b"/other"))
    assert statuses(uploading.finish()) == [200, 200]
    assert served == [("/other", 0), ("/other", 0), ("/a", 10_000), ("/next", 0)]
    assert [statuses(other.finish()) for other in (before, after)] == [[200], [200]]


def test_the_time_for_a_body_is_the_applications_or_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DS_SERVER__BODY_TIMEOUT_SECS", raising=False)
    assert stream_worker().body_timeout_s == 10
    monkeypatch.setenv("DS_SERVER__BODY_TIMEOUT_SECS", "7")
    assert stream_worker().body_timeout_s == 7
    app = create_app(Config(server=ServerSettings(body_timeout_secs=3)))
    assert stream_worker(app).body_timeout_s == 3


def test_our_own_application_answers_slow_chunks_with_408() -> None:
    app = create_app(Config(server=ServerSettings(body_timeout_secs=0.02)))
    worker = stream_worker(app)
    app.extensions["durable_streams"].open()
    stream = b"/v1/stream/slow HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
    assert statuses(converse(worker, b"PUT " + stream + b"\r\n")) == [201]
    conversation = Conversation(worker)
    conversation.send(b"POST " + stream + CHUNKED + b"\r\n5\r\nab")
    (answer,) = answers_in(conversation.receive_all())
    assert (answer.status, answer.fields["content-type"]) == (408, "application/problem+json")
    conversation.finish()
    app.extensions["durable_streams"].close()


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"], ids=["sends at once", "asks first"])
@both_ways
def test_our_own_application_refuses_a_large_body_before_a_byte_of_it_is_read(
    way: bytes, expect: bytes
) -> None:
    app = create_app(Config(limits=LimitSettings(max_request_body_bytes=1_000_000)))
    head = b"POST /v1/stream/large HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n" + way + expect
    conversation = Conversation(stream_worker(app))
    conversation.send(head + b"Content-Length: 1000001\r\n\r\n")
    (answer,) = answers_in(conversation.receive_all())
    assert (answer.status, answer.fields["content-type"]) == (413, "application/problem+json")
    assert answer.fields["connection"] == "close"
    conversation.finish()
    app.extensions["durable_streams"].close()
