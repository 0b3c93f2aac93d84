"""Writing to a client: live events that never wait, responses that wait for a slow client and give up a deaf one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from durable_streams.eventloop.live_socket import LIVE_SOCKET
from durable_streams.worker import client_socket
from durable_streams.worker.client_socket import ClientSocket, LiveSocketOffer, SlowPathSocket
from durable_streams.worker.connections import Connection
from tests.worker.in_process import Conversation, answers_in, converse, stock_worker, stream_worker
from tests.worker.request_samples import get

PATIENCE_S = 180.0
SHORT_S = 0.02
LARGE = b"0123456789abcdef" * 500_000
# A header with an underscore takes a request to the slow path.
SLOW = b"X_Slow: 1\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    ours, theirs = socket.socketpair()
    with ours, theirs, gevent.Timeout(PATIENCE_S):
        yield ours, theirs


# -- live events ---------------------------------------------------------------------------------------------------


def test_an_event_is_one_chunk_and_nothing_is_left_of_it(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    assert ClientSocket(ours, PATIENCE_S).send(b"data:x\n\n") == b""
    assert theirs.recv(100) == b"8\r\ndata:x\n\n\r\n"


def test_what_a_full_socket_does_not_take_is_returned_and_sent_later(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    client = ClientSocket(ours, PATIENCE_S)
    rest = client.send(LARGE)
    assert 0 < len(rest) < len(LARGE)
    second = client.send(b"next")
    assert second == b"4\r\nnext\r\n"
    sending = gevent.spawn(
        lambda: (client.send_rest(rest), client.send_rest(second), ours.shutdown(socket.SHUT_WR))
    )
    received = b"".join(iter(lambda: theirs.recv(1 << 20), b""))
    sending.get()
    assert received == b"%x\r\n%b\r\n4\r\nnext\r\n" % (len(LARGE), LARGE)


def test_two_events_in_turn_are_each_framed_as_themselves(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    client, other = ClientSocket(ours, PATIENCE_S), ClientSocket(ours, PATIENCE_S)
    first, second = b"first", b"the second"
    for sock, event in ((client, first), (other, first), (client, second), (client, first)):
        sock.send(event)
    assert theirs.recv(100) == b"5\r\nfirst\r\n" * 2 + b"a\r\nthe second\r\n" + b"5\r\nfirst\r\n"


def test_a_broken_connection_raises(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(OSError, match="Broken pipe"):
        ClientSocket(ours, PATIENCE_S).send(b"x")


def test_a_client_that_goes_is_noticed(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    gone = Event()
    watch = ClientSocket(ours, PATIENCE_S).watch(gone.set)
    theirs.close()
    gone.wait()
    watch.close()


# -- writes that stall ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ClientSocket, SlowPathSocket])
def test_a_client_that_takes_nothing_for_too_long_is_given_up(
    kind: type[ClientSocket], pair: tuple[Any, Any]
) -> None:
    with pytest.raises(TimeoutError):
        kind(pair[0], SHORT_S).send_all(LARGE)


class Waits:
    """A socket that takes one byte a send, and notes how long each send was allowed to wait."""

    def __init__(self) -> None:
        self._sock = self
        self.timeout: float | None = 5.0
        self.allowed: list[float | None] = []

    def send(self, data: bytes | memoryview) -> int:
        self.allowed.append(self.timeout)
        if len(self.allowed) == 1:
            raise BlockingIOError
        return 1


def test_a_slow_client_has_the_whole_time_for_every_byte_that_it_takes() -> None:
    sock = Waits()
    ClientSocket(sock, 7.0).send_all(b"abc")
    # The first try does not wait; the socket is left as it was.
    assert sock.allowed == [5.0, 7.0, 7.0, 7.0]
    assert sock.timeout == 5.0


def test_a_response_whose_time_is_over_waits_only_for_the_rest_of_its_event() -> None:
    sock = Waits()
    client = ClientSocket(sock, 7.0)
    client.end_at(monotonic() - 1)
    client.send_all(b"abc")
    assert sock.allowed[1:] == [client_socket.LAST_WAITS_S] * 3


def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", str(len(LARGE)))])
    return [LARGE]


def pieces(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    yield from (LARGE[:100_000] for _ in range(80))


@pytest.mark.parametrize("build", [stream_worker, stock_worker])
@pytest.mark.parametrize("path", [b"", SLOW], ids=["fast", "slow"])
@pytest.mark.parametrize("app", [page, pieces])
def test_a_response_that_is_not_taken_ends_and_leaves_nothing(
    app: Callable[..., Any], path: bytes, build: Callable[..., Any]
) -> None:
    worker = build(app, write_timeout_s=SHORT_S)
    conversation = Conversation(worker)
    conversation.sock.sendall(get(fields=path))
    with gevent.Timeout(PATIENCE_S):
        conversation.greenlet.join()
    assert conversation.receive_all() not in (b"", LARGE)
    conversation.sock.close()


@pytest.mark.parametrize("build", [stream_worker, stock_worker])
@pytest.mark.parametrize("path", [b"", SLOW], ids=["fast", "slow"])
def test_a_response_that_is_taken_leaves_no_time_limit_on_its_socket(
    path: bytes, build: Callable[..., Any]
) -> None:
    worker = build(write_timeout_s=SHORT_S)
    conversation = Conversation(worker)
    conversation.send(get(fields=path))
    conversation.send(get(fields=path))
    assert conversation.served.gettimeout() is None
    assert [answer.status for answer in answers_in(conversation.finish())] == [200, 200]


# -- who is offered a live socket ----------------------------------------------------------------------------------


def live_sockets_of(build: Callable[..., Any], request: bytes, **how: bool) -> list[Any]:
    """What the application finds in its environ, after a response that it has written to with it."""
    found: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        live_socket = environ.get(LIVE_SOCKET)
        found.append(live_socket)
        start_response("200 OK", [])
        yield b"begun,"
        if live_socket is not None:
            assert live_socket.send(b"live,") == b""
        yield b"ended"

    (answer,) = answers_in(converse(build(app), request, **how))
    assert answer.body == (b"begun,ended" if found == [None] else b"begun,live,ended")
    return found


@pytest.mark.parametrize("build", [stream_worker, stock_worker])
@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "Unix"])
@pytest.mark.parametrize("path", [b"", SLOW], ids=["fast", "slow"])
def test_live_events_may_be_sent_on_every_plain_connection(
    path: bytes, unix: bool, build: Callable[..., Any]
) -> None:
    (found,) = live_sockets_of(build, get(fields=path), unix=unix)
    assert isinstance(found, ClientSocket)


@pytest.mark.parametrize("build", [stream_worker, stock_worker])
def test_none_is_offered_where_chunks_are_not_understood(build: Callable[..., Any]) -> None:
    assert live_sockets_of(build, get(version=b"HTTP/1.0")) == [None]


def test_none_is_offered_above_tls() -> None:
    class TlsSocket:
        timeout = None

    environ = {"gunicorn.socket": TlsSocket(), "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.file_wrapper": Event}
    LiveSocketOffer(lambda environ, start_response: [], PATIENCE_S)(environ, None)
    assert LIVE_SOCKET not in environ


@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "Unix"])
def test_both_kinds_of_listeners_have_the_fast_path(unix: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "_respond_by_gunicorn", lambda *it: pytest.fail("the slow path"))
    seen = converse(stream_worker(), get(b"/1") + get(b"/2"), unix=unix)
    assert [answer.status for answer in answers_in(seen)] == [200, 200]
