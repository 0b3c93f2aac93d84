"""Bodies that come in parts, cut off, slowly, too large or not at all, on the fast and on the slow path."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from durable_streams.app import create_app
from durable_streams.config import Config
from durable_streams.config.settings import LimitSettings, ServerSettings
from durable_streams.eventloop.deadline import silence_limit
from durable_streams.worker import bodies
from durable_streams.worker.bodies import UNREAD_BYTES_MAX, BodyTimeout, ClientDisconnected
from tests.worker.in_process import Conversation, answers_in, converse, stream_worker
from tests.worker.request_samples import CHUNKED, get, post

NEXT = get(b"/next")
# A header with an underscore takes a request to the slow path.
SLOW = b"X_Slow: 1\r\n"

both_paths = pytest.mark.parametrize("path", [b"", SLOW], ids=["fast", "slow"])


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


@both_paths
@pytest.mark.parametrize("name", READS)
def test_a_body_that_comes_in_parts_can_be_read_in_every_way(name: str, path: bytes) -> None:
    read, expected = READS[name]
    app = Reading(read)
    head = post(b"Content-Length: 13\r\n" + path)
    seen = converse(stream_worker(app), head, b"one\nt", b"wo\n", b"three", NEXT)
    assert app.outcomes == [expected]
    assert statuses(seen) == [200, 200]


@both_paths
@pytest.mark.parametrize("name", READS)
def test_an_application_never_takes_a_body_that_was_cut_off_for_a_whole_one(name: str, path: bytes) -> None:
    app = Reading(READS[name][0])
    seen = converse(stream_worker(app), post(b"Content-Length: 13\r\n" + path), b"one", b"\nt")
    if name == "readline":
        # Only the second line is cut, and its two bytes are there... but one of them is missing.
        assert app.outcomes == [ClientDisconnected]
    assert app.outcomes == [ClientDisconnected]
    assert seen == b""


@pytest.mark.parametrize("fields", [b"Content-Length: 13\r\n", b"Content-Length: 13\r\n" + SLOW, CHUNKED])
def test_a_body_that_falls_silent_is_an_error_in_time(fields: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SILENCE_S", 0.02)
    app = Reading(lambda source: source.read())
    conversation = Conversation(stream_worker(app))
    conversation.send(post(fields, b"3\r\n"))
    seen = conversation.receive_all()
    assert app.outcomes == [BodyTimeout]
    assert statuses(seen) in ([408], [])
    assert statuses(seen) == [408] or fields != b"Content-Length: 13\r\n"
    conversation.finish()


@both_paths
def test_an_application_may_respond_to_a_silent_body_itself(
    path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except TimeoutError:
            start_response("408 Request Timeout", [])
            return [b"mine"]
        raise AssertionError

    monkeypatch.setattr(bodies, "SILENCE_S", 0.02)
    conversation = Conversation(stream_worker(app))
    conversation.send(post(b"Content-Length: 13\r\n" + path, b"abc"))
    (answer,) = answers_in(conversation.receive_all())
    assert (answer.status, answer.body) == (408, b"mine")
    conversation.finish()


@both_paths
def test_an_application_may_set_how_long_a_body_is_silent(path: bytes) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with pytest.raises(TimeoutError), silence_limit(environ["gunicorn.socket"], 0.02):
            environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [b"read"]

    conversation = Conversation(stream_worker(app))
    conversation.send(post(b"Content-Length: 13\r\n" + path, b"abc"))
    assert statuses(conversation.receive_all()) == [200]
    conversation.finish()


@pytest.mark.parametrize("fields", [b"Content-Length: 3\r\n", b"Content-Length: 3\r\n" + SLOW, CHUNKED])
def test_no_time_limit_is_left_on_the_socket_behind_a_body(fields: bytes) -> None:
    """The next request of an idle connection is waited for under the keep-alive limit alone."""
    conversation = Conversation(stream_worker(Reading(lambda source: source.read())))
    conversation.send(post(fields))
    conversation.send(b"3\r\nabc\r\n0\r\n\r\n" if fields is CHUNKED else b"abc")
    conversation.send(NEXT)
    assert conversation.served.gettimeout() is None
    assert statuses(conversation.finish()) == [200, 200]


def refusing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] == "/next":
        start_response("200 OK", [])
    else:
        start_response("413 Content Too Large", [])
    return [b"said"]


LARGE = b"Content-Length: 1000000000\r\n"


@both_paths
@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_a_large_body_that_nobody_reads_is_neither_asked_for_nor_waited_for(
    expect: bytes, path: bytes
) -> None:
    conversation = Conversation(stream_worker(refusing))
    conversation.send(post(LARGE + expect + path))
    (answer,) = answers_in(conversation.receive_all())
    assert (answer.status, answer.fields["connection"]) == (413, "close")
    conversation.finish()


@both_paths
def test_the_answer_arrives_though_the_client_goes_on_sending(path: bytes) -> None:
    conversation = Conversation(stream_worker(refusing))
    sender = gevent.spawn(conversation.sock.sendall, post(LARGE + path, b"x" * 10_000_000))
    (answer,) = answers_in(conversation.receive_all())
    assert answer.status == 413
    sender.join(20)
    conversation.finish()


@both_paths
def test_a_small_body_that_nobody_reads_is_thrown_away(path: bytes) -> None:
    length = b"Content-Length: %d\r\n" % UNREAD_BYTES_MAX
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".ljust(UNREAD_BYTES_MAX, b"x")
    worker = stream_worker(refusing)
    assert statuses(converse(worker, post(length + path, body + NEXT))) == [413, 200]
    assert statuses(converse(worker, post(length + path), body[:99], body[99:] + NEXT)) == [413, 200]


def test_chunks_that_nobody_reads_end_the_connection() -> None:
    seen = converse(stream_worker(refusing), post(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n" + NEXT))
    assert statuses(seen) == [413]


@both_paths
def test_a_body_read_in_part_leaves_the_next_request_whole(path: bytes) -> None:
    app = Reading(lambda source: source.read(3))
    seen = converse(
        stream_worker(app), post(b"Content-Length: 13\r\n" + path), b"one\ntwo\n", b"three" + NEXT
    )
    assert app.outcomes == [b"one"]
    assert statuses(seen) == [200, 200]


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (b"Content-Length: 5\r\n", b"hello"),
        (b"Content-Length: 5\r\n" + SLOW, b"hello"),
        (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"),
    ],
    ids=["fast", "slow", "chunks"],
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


@both_paths
def test_nobody_who_was_not_told_to_send_is_taken_for_having_sent(path: bytes) -> None:
    """A client that got its answer instead of `100 Continue` sends its next request, or the body: who knows."""
    head = post(b"Content-Length: 5\r\nExpect: 100-continue\r\n" + path)
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
@both_paths
def test_our_own_application_refuses_a_large_body_before_a_byte_of_it_is_read(
    path: bytes, expect: bytes
) -> None:
    app = create_app(Config(limits=LimitSettings(max_request_body_bytes=1_000_000)))
    head = b"POST /v1/stream/large HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n" + path + expect
    conversation = Conversation(stream_worker(app))
    conversation.send(head + b"Content-Length: 1000001\r\n\r\n")
    (answer,) = answers_in(conversation.receive_all())
    assert (answer.status, answer.fields["content-type"]) == (413, "application/problem+json")
    assert answer.fields["connection"] == "close"
    conversation.finish()
    app.extensions["durable_streams"].close()
