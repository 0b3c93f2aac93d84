"""What the worker uses of gunicorn, gunicorn_h1c and gevent though they do not promise it.

When one of these fails, a new version has moved something: the message says what depends on it. The other tests of
this folder then show whether the new place serves as well.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any

import gevent
import gunicorn_h1c
import pytest
from gevent.baseserver import BaseServer
from gevent.server import StreamServer
from gunicorn import util
from gunicorn.http import body, get_parser, parser, unreader, wsgi
from gunicorn.http.message import HeaderPolicy, Message, Request
from gunicorn.workers.base import Worker
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

from tests.worker.in_process import CLIENT, gunicorn_config
from tests.worker.request_samples import CHUNKED, get, post

READ_AND_FOUND_FIT = {"gunicorn": "27.0.1", "gunicorn_h1c": "0.6.10"}


@pytest.mark.parametrize("package", READ_AND_FOUND_FIT)
def test_the_worker_was_written_for_this_version(package: str) -> None:
    assert version(package) == READ_AND_FOUND_FIT[package], (
        f"{package} {version(package)} is installed. The worker relies on internals of {package}: run tests/worker, "
        "read what has changed in its parsers and workers, and only then change this line and the pin."
    )


def parsed(data: bytes) -> Any:
    made = get_parser(gunicorn_config(), iter([data]), CLIENT)
    return made, next(made)


def test_the_c_parser_gives_what_request_heads_reads() -> None:
    head = gunicorn_h1c.parse_request_fast(
        post(b"X-A: b\r\nContent-Length: 3\r\n", b"abc"), limit_request_fields=100
    )
    assert (head.method, head.path, head.content_length) == (b"POST", b"/a", 3), (
        "request_heads.RequestHeads.read"
    )
    assert head.headers[1] == (b"X-A", b"b"), "request_heads: names as sent, values stripped"
    assert head.consumed == len(post(b"X-A: b\r\nContent-Length: 3\r\n")), (
        "request_heads: where the body begins"
    )
    assert gunicorn_h1c.parse_request_fast(get()).content_length == -1, "request_heads: no length is negative"


def test_the_c_parser_says_incomplete_by_an_exception_that_is_not_the_public_one() -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011
        gunicorn_h1c.parse_request_fast(b"GET / HT")
    assert not isinstance(raised.value, gunicorn_h1c.IncompleteError), (
        "request_heads catches Exception because of this; it may now name gunicorn_h1c.IncompleteError"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        b"GET / HTTP/1.1\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\n\r\n", b"GET / HTTP/1.1\r\nX : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", b"GET / HTTP/1.1\r\nX: a\x00\r\n\r\n", b"get / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n",
    ],
)  # fmt: skip
def test_the_c_parser_is_as_strict_as_when_request_heads_was_written(wrong: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        gunicorn_h1c.parse_request_fast(wrong)


def test_a_parser_takes_bytes_back_and_gives_them_back() -> None:
    made, request = parsed(post(b"Content-Length: 3\r\n", b"abc") + get(b"/next"))
    assert request.body.read() == b"abc"
    assert made.finish_body(deadline=None, max_bytes=10), "connections.Connection._answer_unusual"
    assert made.unreader.take_buffered() == get(b"/next"), "connections: what follows a request goes back"
    made.unreader.unread(b"again")
    assert made.unreader.buf.getvalue() == b"again", "connections, and bodies.TimedBody._guarded"


def test_bodies_show_what_is_left_of_them() -> None:
    _, request = parsed(post(b"Content-Length: 3\r\n", b"abc"))
    assert request.body.reader.length == 3, "bodies.TimedBody: what is due"
    assert request.body.failed is False, "bodies.TimedBody.failed"
    assert request.body.getsize(None) == request.body.getsize(-1) > 10**9, "bodies.TimedBody.read"
    _, request = parsed(post(CHUNKED, b"0\r\n\r\n"))
    assert request.body.reader.parser is not None
    assert not hasattr(request.body.reader, "length"), "bodies.TimedBody tells chunks by this"
    assert request.body.read() == b""
    assert request.body.reader.parser is None, "bodies.TimedBody.has_unread_rest"
    _, request = parsed(get())
    assert request.body.reader.length == 0, "bodies.TimedBody: no body is a length of 0"


def test_a_request_shows_its_expectation_and_whether_it_is_the_last() -> None:
    _, request = parsed(post(b"Content-Length: 3\r\nExpect: 100-continue\r\n"))
    assert request._expected_100_continue is True, "bodies.TimedBody sends `100 Continue` itself"
    assert "req._expected_100_continue" in inspect.getsource(wsgi.create)
    assert "self.req.should_close()" in inspect.getsource(wsgi.Response.should_close), (
        "stream_worker.handle_request closes behind an unread body by replacing should_close of the request"
    )
    assert ("HOST", "example.org") in request.headers, "stream_worker.refuse_wrong_host"
    assert request.version == (1, 1)


SIGNATURES: list[tuple[Any, str, str]] = [
    (AsyncWorker.handle, "self, listener, client, addr", "StreamWorker.handle calls it, for TLS and the like"),
    (AsyncWorker.handle_request, "self, listener_name, req, sock, addr", "StreamWorker.handle_request guards it"),
    (GeventWorker.handle_request, "self, listener_name, req, sock, addr", "StreamWorker.handle_request guards it"),
    (Worker.handle_error, "self, req, client, addr, exc", "Connection._answer_unusual calls it"),
    (GeventWorker.handle_quit, "self, sig, frame", "StreamWorker.handle_quit replaces it"),
    (GeventWorker.timeout_ctx, "self", "StreamWorker.timeout_ctx replaces it"),
    (util.write_error, "sock, status_int, reason, mesg", "Connection._fail calls it"),
    (wsgi.base_environ, "cfg", "StreamWorker._base_environ calls it"),
    (parser.Parser.finish_body, "self, deadline, max_bytes", "Connection._answer_unusual calls it"),
    (unreader.Unreader.take_buffered, "self", "Connection._answer_unusual calls it"),
    (unreader.SocketUnreader.chunk, "self, size_hint", "bodies.PacedReader replaces it"),
    (body.Body.readline, "self, size", "TimedBody.readline calls it"),
    (Message.should_close, "self", "StreamWorker.handle_request wraps it"),
    (Request.parse, "self, unreader", "StrictRequest.parse sets the limits before it"),
    (Message.parse_headers, "self, data, from_trailer", "StrictRequest.parse_headers limits the head"),
    (wsgi.Response.default_headers, "self", "CurrentResponse.default_headers changes the first of them"),
    (Request.set_body_reader, "self", "it gives a request without a length an empty body"),
    (StreamServer.do_read, "self", "drain_backlog calls it"),
    (BaseServer.stop_accepting, "self", "drain_backlog calls it"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "parameters", "user"), SIGNATURES)
def test_what_is_called_or_replaced_takes_the_same_arguments(
    function: Any, parameters: str, user: str
) -> None:
    assert ", ".join(inspect.signature(function).parameters) == parameters, user


def test_gunicorn_enters_timeout_ctx_just_while_it_waits_for_a_request() -> None:
    source = inspect.getsource(AsyncWorker.handle)
    assert "with self.timeout_ctx():\n                            req = next(parser)" in source, (
        "a stop ends the connections that are inside StreamWorker.timeout_ctx: they must be idle"
    )


def test_a_run_is_what_the_worker_replaces() -> None:
    source = inspect.getsource(Worker.init_process)
    assert source.rstrip().endswith("self.run()"), "StreamWorker.run"
    assert source.index("self.load_wsgi()") < source.index("self.run()"), (
        "StreamWorker.prepare looks at the app"
    )
    assert "signal.set_wakeup_fd(self.PIPE[1])" in inspect.getsource(Worker.init_signals), (
        "StreamWorker._rest wakes by what a signal writes into PIPE"
    )


def test_gunicorn_tells_whom_it_trusts_about_the_scheme() -> None:
    source = inspect.getsource(HeaderPolicy._peer_is_trusted_proxy)
    assert "_ip_in_allow_list(self.peer_addr[0], cfg.forwarded_allow_ips" in source, "StreamWorker.heads_from"
    assert "cfg.forwarded_allow_networks()" in source, "StreamWorker.heads_from"


def test_settings_show_whether_they_are_the_default() -> None:
    setting = gunicorn_config().settings["pre_request"]
    assert setting.get() is setting.default, "StreamWorker._obstacle tells hooks by this"


def test_gevents_sockets_show_what_is_below_them() -> None:
    ours, theirs = gevent.socket.socketpair()
    with ours, theirs:
        assert ours._sock.gettimeout() == 0.0, "responses.send_all: the socket below never blocks"
        assert ours._read_event.fd == ours.fileno(), "Connection._next_bytes waits for this"
        theirs.sendall(b"x")
        gevent.get_hub().wait(ours._read_event)
        assert ours._sock.recv(1) == b"x"
