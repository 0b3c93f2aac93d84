"""Turns: long work lets every other greenlet run, those included whose socket has become ready meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from durable_streams.eventloop.threads import in_thread
from durable_streams.eventloop.turns import TURN_BYTES, LargeBody, StreamedBody, yield_to_loop

PATIENCE_S = 180.0


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    ours, theirs = socket.socketpair()
    with ours, theirs, gevent.Timeout(PATIENCE_S):
        yield ours, theirs


@pytest.mark.parametrize("size", [0, 1, TURN_BYTES, TURN_BYTES + 1, 3 * TURN_BYTES])
def test_the_pieces_of_a_body_are_the_body(size: int) -> None:
    body = bytes(size)
    pieces = list(LargeBody(body))
    assert b"".join(pieces) == body
    assert all(0 < len(piece) <= TURN_BYTES for piece in pieces)


def three_pieces() -> Generator[bytes]:
    for _ in range(3):
        yield bytes(TURN_BYTES)


@pytest.mark.parametrize(
    "make_body", [lambda: LargeBody(bytes(3 * TURN_BYTES)), lambda: StreamedBody(three_pieces())]
)
def test_between_two_pieces_others_get_a_turn(make_body: Callable[[], Any]) -> None:
    turns: list[str] = []

    def other() -> None:
        for _ in range(2):
            turns.append("other")
            gevent.sleep(0)

    greenlet = gevent.spawn(other)
    for _ in make_body():
        turns.append("piece")
    greenlet.join()
    assert turns[:3] == ["piece", "other", "piece"] or turns[:4] == ["piece", "other", "other", "piece"]


def test_a_streamed_body_that_is_closed_reads_no_more() -> None:
    seen: list[str] = []

    def pieces() -> Generator[bytes]:
        try:
            for piece in three_pieces():
                seen.append("read")
                yield piece
        finally:
            seen.append("closed")

    body = StreamedBody(pieces())
    next(iter(body))
    body.close()
    assert seen == ["read", "closed"]


def test_who_waits_for_a_socket_gets_the_second_turn_at_the_latest(pair: Any) -> None:
    # The first turn looks at the sockets; whom it finds ready may come after us in the same round of the loop.
    ours, theirs = pair
    received: list[bytes] = []
    reader = gevent.spawn(lambda: received.append(ours.recv(10)))
    gevent.sleep(0)
    theirs.sendall(b"ready")
    yield_to_loop()
    yield_to_loop()
    assert received == [b"ready"]
    reader.join()


def test_heavy_work_is_done_elsewhere_and_its_failure_comes_back() -> None:
    assert in_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        in_thread(divmod, 1, 0)
