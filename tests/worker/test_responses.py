"""What the client gets of whatever a WSGI application may answer, and when it gets it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

import gevent
import pytest

from durable_streams.eventloop.turns import TURN_BYTES, CutShort, StreamedBody
from durable_streams.worker import connections, responses
from durable_streams.worker.client_socket import ClientSocket
from tests.worker.in_process import (
    Answer,
    Conversation,
    answers_in,
    bytes_waiting,
    converse,
    stock_worker,
    stream_worker,
)
from tests.worker.request_samples import get

TEXT = ("Content-Type", "text/plain")
HEAD = b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSE = get(fields=b"Connection: close\r\n")

App = Callable[[dict[str, Any], Any], Any]


def app_of(
    status: str = "200 OK", headers: list[tuple[str, str]] | None = None, body: Callable[[], Any] = list
) -> App:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, [TEXT] if headers is None else headers)
        return body()

    return app


def pieces(*parts: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(parts)


def writing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    write = start_response("200 OK", [TEXT])
    write(b"by ")
    write(b"write, ")
    return [b"then returned"]


def starting_late(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [TEXT])
    yield b"a generator starts "
    yield b"when it is asked first"


def changing_its_mind(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [TEXT])
    try:
        raise ValueError("too late")
    except ValueError:
        start_response("503 Busy", [("Retry-After", "1")], sys.exc_info())
    return [b"busy"]


SAME_AS_GUNICORN: dict[str, App] = {
    "one piece": app_of(body=lambda: [b"hello"]),
    "one piece with its length": app_of(headers=[TEXT, ("Content-Length", "5")], body=lambda: [b"hello"]),
    "a list of pieces": app_of(body=lambda: [b"hel", b"", b"lo"]),
    "a tuple": app_of(body=lambda: (b"hello",)),
    "a generator": app_of(body=pieces(b"hel", b"", b"lo")),
    "a generator with a length": app_of(headers=[("Content-Length", "5")], body=pieces(b"hel", b"lo")),
    "an empty piece first": app_of(body=pieces(b"", b"hello")),
    "nothing": app_of(body=list),
    "an empty generator": app_of(body=pieces()),
    "more than promised": app_of(headers=[("Content-Length", "3")], body=lambda: [b"hello"]),
    "more than promised in pieces": app_of(
        headers=[("Content-Length", "3")], body=pieces(b"he", b"llo", b"x")
    ),
    "no content": app_of("204 No Content", [("Content-Length", "0")], list),
    "no content, but a body": app_of("204 No Content", [], lambda: [b"body"]),
    "not modified": app_of("304 Not Modified", [("ETag", '"a"'), ("Content-Length", "9")], list),
    "no reason": app_of("200", body=lambda: [b"x"]),
    "Latin-1 in a value": app_of(headers=[("X-Text", "\xe4\xff")], body=lambda: [b"x"]),
    "white space round a value": app_of(headers=[("X-Text", " \ta b\t ")], body=lambda: [b"x"]),
    "fields of the hop": app_of(
        headers=[("Connection", "x"), ("Keep-Alive", "y"), ("Server", "z"), ("Date", "d"), ("TE", "t")],
        body=lambda: [b"x"],
    ),
    "write": writing,
    "a generator that starts late": starting_late,
    "a large body": app_of(body=lambda: [b"0123456789abcdef" * 60_000]),
    "large pieces": app_of(body=pieces(b"a" * 300_000, b"b", b"c" * 600_001)),
}


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("name", SAME_AS_GUNICORN)
def test_the_client_gets_what_gunicorn_would_give_it(name: str, method: bytes) -> None:
    app = SAME_AS_GUNICORN[name]
    sent = method + CLOSE[3:]
    ours = answers_in(converse(stream_worker(app), sent), (0,) if method == b"HEAD" else ())
    theirs = answers_in(converse(stock_worker(app), sent), (0,) if method == b"HEAD" else ())
    assert [without_framing(answer) for answer in ours] == [without_framing(answer) for answer in theirs]
    assert len(ours) == 1


def test_headers_are_remembered_within_a_bound() -> None:
    remembered = responses._line_of.__self__  # type: ignore[attr-defined]
    for number in range(2 * responses.REMEMBERED_MAX):
        header = ("X-Number", f" {number} ")
        assert responses._line_of(header) == responses._line_of(header) == f"X-Number: {number}\r\n"
        assert len(remembered) <= responses.REMEMBERED_MAX
    long = ("X-Long", "a" * (responses.KEPT_VALUE_CHARACTERS_MAX + 1))
    responses._line_of(long)
    assert long not in remembered


def test_a_second_start_with_the_reason_replaces_the_first() -> None:
    (answer,) = answers_in(converse(stream_worker(changing_its_mind), get()))
    assert (answer.status, answer.body) == (503, b"busy")
    assert answer.fields.get("retry-after") == "1"
    assert "content-type" not in answer.fields


@pytest.mark.parametrize("name", SAME_AS_GUNICORN)
def test_another_request_may_follow_every_whole_answer(name: str) -> None:
    seen = converse(stream_worker(SAME_AS_GUNICORN[name]), get() + CLOSE)
    assert [answer.fields["connection"] for answer in answers_in(seen)] == ["keep-alive", "close"]


def without_framing(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    fields = {k: v for k, v in answer.fields.items() if k not in ("content-length", "transfer-encoding")}
    return answer.status, fields, answer.body


@pytest.mark.parametrize(
    ("headers", "body", "length"),
    [
        ([TEXT], [b"hello"], "5"),
        ([TEXT], [b"hel", b"lo"], "5"),
        ([("Content-Length", "5")], [b"hello"], "5"),
        ([TEXT], [], "0"),
    ],
)
def test_a_body_that_is_all_there_has_its_length(
    headers: list[tuple[str, str]], body: list[bytes], length: str
) -> None:
    (answer,) = answers_in(converse(stream_worker(app_of(headers=headers, body=lambda: body)), get()))
    assert answer.fields["content-length"] == length
    assert "transfer-encoding" not in answer.fields


def test_the_length_of_head_is_the_applications() -> None:
    promised = app_of(headers=[("Content-Length", "123")])
    assert answers_in(converse(stream_worker(promised), HEAD), (0,))[0].fields["content-length"] == "123"
    silent = app_of(headers=[TEXT])
    assert "content-length" not in answers_in(converse(stream_worker(silent), HEAD), (0,))[0].fields


def test_no_more_of_a_generator_is_run_than_head_needs() -> None:
    app = app_of(body=lambda: (b"for ever" for _ in iter(int, 1)))
    assert len(answers_in(converse(stream_worker(app), HEAD), (0,))) == 1


def test_less_than_promised_ends_the_connection() -> None:
    app = app_of(headers=[("Content-Length", "9")], body=pieces(b"hello"))
    seen = converse(stream_worker(app), get() + get())
    assert seen.endswith(b"\r\n\r\nhello")
    assert seen.count(b"HTTP/1.1") == 1


def test_head_and_body_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sends: list[bytes] = []
    worker = stream_worker(app_of(body=lambda: [b"hello"]))
    original = ClientSocket._send
    monkeypatch.setattr(
        ClientSocket, "_send", lambda sock, data: (sends.append(bytes(data)), original(sock, data))
    )
    converse(worker, get())
    assert len(sends) == 1
    sends.clear()
    worker.application = app_of(body=pieces(b"hel", b"lo"))
    converse(worker, get())
    assert [sent[-10:] for sent in sends] == [b"\r\n3\r\nhel\r\n"[-10:], b"2\r\nlo\r\n", b"0\r\n\r\n"]


def test_what_was_yielded_has_been_sent_before_more_is_asked_for() -> None:
    """So that others may write whole chunks to the socket between two pieces of a generator."""
    sent_at: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [TEXT])
        yield b"first"
        sent_at.append(bytes_waiting(conversation.sock))
        environ["gunicorn.socket"]._sock.send(b"6\r\n other\r\n")
        yield b" second"
        sent_at.append(bytes_waiting(conversation.sock))

    conversation = Conversation(stream_worker(app))
    conversation.send(CLOSE)
    seen = conversation.finish()
    (answer,) = answers_in(seen)
    assert answer.body == b"first other second"
    assert sent_at == [seen.index(b"6\r\n"), seen.index(b"0\r\n\r\n")]


@pytest.mark.parametrize(
    "app",
    [
        app_of(headers=[("X-A", "a\r\nX-B: b")], body=lambda: [b"x"]),
        app_of(headers=[("X-A", "a\nb")], body=lambda: [b"x"]),
        app_of(headers=[("X-A", "a\x00")], body=lambda: [b"x"]),
        app_of(headers=[("X-A: b\r\nX-C", "d")], body=lambda: [b"x"]),
        app_of(headers=[("X A", "d")], body=lambda: [b"x"]),
        app_of(headers=[("", "d")], body=lambda: [b"x"]),
        app_of(headers=[("X-A", 1)], body=lambda: [b"x"]),  # type: ignore[list-item]
        app_of(headers=[("X-A", b"a")], body=lambda: [b"x"]),  # type: ignore[list-item]
        app_of(headers=[(b"X-A", "a")], body=lambda: [b"x"]),  # type: ignore[list-item]
        app_of(headers=[("X-A", "\u20ac")], body=lambda: [b"x"]),
        app_of(headers=[("Content-Length", "-1")], body=lambda: [b"x"]),
        app_of(headers=[("Content-Length", "1_0")], body=lambda: [b"x"]),
        app_of("200 OK\r\nX-A: b", body=lambda: [b"x"]),
        app_of("OK", body=lambda: [b"x"]),
        app_of(body=lambda: ["text"]),
        app_of(body=lambda: ["text", "more"]),
        app_of(body=lambda: iter(["text"])),
        app_of(body=lambda: None),
        lambda environ, start_response: [b"no start"],
        lambda environ, start_response: (start_response("200 OK", []), start_response("200 OK", [])),
        lambda environ, start_response: 1 / 0,
        lambda environ, start_response: sys.exit(1),
    ],
)
def test_an_application_that_errs_is_answered_500_and_nothing_of_it_gets_out(app: App) -> None:
    seen = converse(stream_worker(app), get() + get())
    (answer,) = answers_in(seen)
    assert (answer.status, answer.fields["connection"]) == (500, "close")
    assert b"X-" not in seen


def test_an_answer_that_breaks_off_is_seen_to_be_incomplete() -> None:
    def breaking() -> Iterator[bytes]:
        yield b"begun"
        raise ValueError("broken")

    seen = converse(stream_worker(app_of(body=breaking)), get() + get())
    assert seen.endswith(b"5\r\nbegun\r\n")
    assert seen.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("make_worker", [stream_worker, stock_worker])
@pytest.mark.parametrize("is_long", [False, True])
def test_an_answer_whose_rest_is_lost_ends_short_and_without_a_traceback(
    make_worker: Callable[[App], Any], is_long: bool
) -> None:
    def losing() -> Generator[bytes]:
        yield b"begun"
        raise CutShort("deleted")

    headers = [("Content-Length", "10")] if is_long else []
    worker = make_worker(app_of(headers=headers, body=lambda: StreamedBody(losing())))
    failures: list[str] = []
    worker.log.exception = lambda message, *args: failures.append(message % args)
    seen = converse(worker, get() + get())
    assert seen.endswith(b"begun" if is_long else b"5\r\nbegun\r\n")
    assert seen.count(b"HTTP/1.1") == 1
    assert failures == []


class Closing:
    """A body that counts how often it is closed."""

    def __init__(self, *parts: Any) -> None:
        self._parts = iter(parts)
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        return self._parts

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("parts", [(b"a", b"b"), (), ("text",), (b"a", None)])
@pytest.mark.parametrize("sent", [get(), HEAD])
def test_the_body_is_closed_once_whatever_happens(parts: tuple[Any, ...], sent: bytes) -> None:
    body = Closing(*parts)
    converse(stream_worker(app_of(body=lambda: body)), sent)
    assert body.closed == 1


def test_the_body_is_closed_when_the_client_has_gone() -> None:
    body = Closing(*(b"x" * TURN_BYTES for _ in range(1000)))
    conversation = Conversation(stream_worker(app_of(body=lambda: body)))
    conversation.sock.sendall(get())
    assert conversation.sock.recv(100)
    conversation.sock.close()
    conversation.greenlet.join(20)
    assert conversation.greenlet.dead
    assert body.closed == 1


@pytest.mark.parametrize(
    "body", [lambda: [b"x" * 40 * TURN_BYTES], lambda: (b"x" * (TURN_BYTES // 4) for _ in range(160))]
)
def test_others_get_a_turn_after_every_piece_of_a_big_answer(
    body: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the client takes everything at once, so that nothing else ever makes the greenlet wait."""
    turns = 0
    turns_at_send: list[int] = []

    def other() -> None:
        nonlocal turns
        while not conversation.greenlet.dead:
            turns += 1
            gevent.sleep(0)

    monkeypatch.setattr(ClientSocket, "_send", lambda sock, data: turns_at_send.append(turns))
    conversation = Conversation(stream_worker(app_of(body=body)))
    helper = gevent.spawn(other)
    conversation.sock.sendall(CLOSE)
    gevent.joinall([conversation.greenlet, helper], timeout=180, raise_error=True)
    conversation.finish()
    assert turns_at_send[-1] - turns_at_send[0] >= 38


def test_requests_that_were_sent_ahead_do_not_keep_others_waiting() -> None:
    served: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        served.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b""]

    worker = stream_worker(app)
    greedy, modest = Conversation(worker), Conversation(worker)
    greedy.sock.sendall(get(b"/greedy") * 500)
    modest.sock.sendall(get(b"/modest"))
    greedy.finish()
    modest.finish()
    assert served.count("/greedy") == 500
    assert served.index("/modest") < 400


def test_the_date_is_that_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = stream_worker(app_of(body=lambda: [b"x"]))
    for now, date in ((0.9, b"00:00:00"), (1.0, b"00:00:01"), (61.5, b"00:01:01")):
        monkeypatch.setattr(responses, "time", lambda now=now: now)
        assert b"\r\nDate: Thu, 01 Jan 1970 " + date + b" GMT\r\n" in converse(worker, get())


def test_a_worker_that_stops_says_so_in_every_answer() -> None:
    worker = stream_worker(app_of(body=lambda: [b"x"]))

    def stopping(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        worker.alive = False
        start_response("200 OK", [])
        return [b"x"]

    worker.application = stopping
    (answer,) = answers_in(converse(worker, get() + get()))
    assert answer.fields["connection"] == "close"


def test_max_requests_ends_the_worker_after_the_answer() -> None:
    worker = stream_worker(app_of(body=lambda: [b"x"]), max_requests=3)
    seen = answers_in(converse(worker, get() * 5))
    assert [answer.fields["connection"] for answer in seen] == ["keep-alive", "keep-alive", "close"]
    assert not worker.alive


def test_an_idle_connection_is_ended_unless_something_has_come() -> None:
    worker = stream_worker()
    idle, speaking = Conversation(worker), Conversation(worker)
    gevent.idle()
    speaking.sock.sendall(get())
    worker.end_idle(float("inf"))
    assert idle.finish() == b""
    assert [answer.status for answer in answers_in(speaking.finish())] == [200]


def test_a_silent_connection_is_ended_also_on_the_slow_path_without_keep_alive() -> None:
    """There gunicorn itself waits for the one request without any timer."""
    worker = stream_worker(keepalive=0, proxy_protocol="v1")
    silent = Conversation(worker)
    gevent.idle()
    worker.end_idle(float("inf"))
    assert silent.receive_all() == b""
    silent.finish()
    assert [answer.status for answer in answers_in(converse(worker, get()))] == [200]


def test_a_client_that_sends_half_a_head_is_not_waited_for_for_ever() -> None:
    worker = stream_worker(keepalive=1)
    conversation = Conversation(worker)
    conversation.send(b"GET / HT")
    assert conversation.receive_all() == b""
    conversation.finish()


@pytest.mark.parametrize("setting", ["pre_request", "post_request"])
def test_hooks_of_gunicorn_are_called(setting: str) -> None:
    called: list[str] = []
    hook: Any = (
        (lambda worker, req: called.append(req.path))
        if setting == "pre_request"
        else (lambda worker, req, environ, resp: called.append(req.path))
    )
    worker = stream_worker(**{setting: hook})
    assert [a.status for a in answers_in(converse(worker, get(b"/1") + get(b"/2")))] == [200, 200]
    assert called == ["/1", "/2"]


def test_what_leaves_nothing_to_linger_for_closes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lingered: list[float] = []
    monkeypatch.setattr(connections, "linger", lambda sock, seconds: lingered.append(seconds))
    converse(stream_worker(), CLOSE)
    assert lingered == []
