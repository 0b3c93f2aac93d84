"""The watch for clients that hang up: it sees them go, consumes nothing, and leaves nothing behind."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.socket import socketpair

from durable_streams.eventloop.client_watch import ClientWatch
from tests.worker.in_process import Conversation, answers_in, stream_worker
from tests.worker.leaks import alive
from tests.worker.request_samples import get

CLIENTS = 10_000
NOTICED_S_MAX = 10


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    ours, theirs = socketpair()
    with ours, theirs:
        yield ours, theirs


def tcp_pair() -> tuple[Any, Any]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    theirs = gevent.socket.socket(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
    return ours, theirs


@pytest.mark.parametrize("how", ["close", "half close", "reset"])
def test_a_client_that_goes_is_noticed(how: str) -> None:
    ours, theirs = tcp_pair()
    gone = Event()
    watch = ClientWatch(theirs, gone.set)
    gevent.idle()
    assert not gone.is_set()
    if how == "half close":
        ours.shutdown(socket.SHUT_WR)
    else:
        if how == "reset":
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ours.close()
    assert gone.wait(NOTICED_S_MAX)
    watch.close()
    ours.close()
    theirs.close()


def test_what_the_client_sends_ahead_stays_to_be_read_and_does_not_spin(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    calls: list[int] = []
    watch = ClientWatch(theirs, lambda: calls.append(1))
    looks = 0
    look = watch._look

    def counted() -> None:
        nonlocal looks
        looks += 1
        look()

    watch._watcher.stop()
    watch._watcher.start(counted)
    ours.sendall(b"ahead")
    for _ in range(10):
        gevent.idle()
    assert (calls, looks) == ([], 1)
    assert theirs.recv(100) == b"ahead"
    watch.close()


def test_a_closed_watch_sees_nothing(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    calls: list[int] = []
    watch = ClientWatch(theirs, lambda: calls.append(1))
    watch.close()
    watch.close()
    ours.close()
    for _ in range(10):
        gevent.idle()
    assert calls == []


def test_a_watch_may_be_closed_while_it_tells(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    gone = Event()

    def close_and_tell() -> None:
        watch.close()
        gone.set()

    watch = ClientWatch(theirs, close_and_tell)
    ours.close()
    assert gone.wait(NOTICED_S_MAX)


class Other:
    """A socket of some other kind, such as one with TLS."""


@pytest.mark.parametrize("sock", [None, Other()])
def test_what_cannot_be_watched_is_not(sock: Any) -> None:
    watch = ClientWatch(sock, lambda: pytest.fail("nobody has gone"))
    gevent.idle()
    watch.close()


def test_a_socket_that_is_closed_already_is_not_watched() -> None:
    ours, theirs = socketpair()
    ours.close()
    theirs.close()
    ClientWatch(theirs, lambda: pytest.fail("that is no client")).close()


def test_a_waiting_answer_and_its_socket_are_shared_with_the_servers_own_waiting() -> None:
    """The worker waits on the same socket before and after, with a watcher of its own."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        watch = ClientWatch(environ["gunicorn.socket"], lambda: None)
        gevent.idle()
        watch.close()
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    conversation = Conversation(stream_worker(app))
    conversation.send(get(b"/1"))
    conversation.send(get(b"/2") + get(b"/3"))
    assert [answer.body for answer in answers_in(conversation.finish())] == [b"/1", b"/2", b"/3"]


def test_clients_that_connect_and_vanish_leave_nothing_behind() -> None:
    gone = 0
    waiting: list[Event] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        nonlocal gone
        event = Event()
        watch = ClientWatch(environ["gunicorn.socket"], event.set)
        waiting.append(event)
        try:
            event.wait()
            gone += 1
        finally:
            watch.close()
        start_response("200 OK", [])
        return [b""]

    worker = stream_worker(app)
    before = alive()
    for _ in range(CLIENTS // 100):
        conversations = [Conversation(worker) for _ in range(100)]
        for conversation in conversations:
            conversation.send(get())
        assert sum(not event.is_set() for event in waiting) == 100
        for conversation in conversations:
            conversation.sock.close()
        gevent.joinall([conversation.greenlet for conversation in conversations], timeout=NOTICED_S_MAX)
    del conversations, conversation
    assert gone == CLIENTS
    waiting.clear()
    assert alive() == before
    assert worker._connections == {}
