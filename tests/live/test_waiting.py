"""Waiting no longer than the client does, deadlines, and turns for the others."""

from __future__ import annotations

import threading
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from durable_streams.eventloop.deadline import deadline
from durable_streams.eventloop.turns import PIECE_BYTES, LargeBody, in_thread, yield_to_loop
from durable_streams.live.waiting import ClientGone, wait_for

PATIENCE_S = 30.0


class TooLate(Exception):
    pass


@pytest.fixture
def pair() -> Any:
    ours, theirs = socket.socketpair()
    with gevent.Timeout(PATIENCE_S):
        yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("watched", [False, True])
def test_a_wait_ends_with_the_event_or_the_time(watched: bool, pair: Any) -> None:
    client = pair[0] if watched else None
    event = Event()
    assert not wait_for(event, 0.001, client)
    gevent.spawn(event.set)
    assert wait_for(event, PATIENCE_S, client)
    assert wait_for(event, 0, client)


def test_a_wait_ends_when_the_client_hangs_up(pair: Any) -> None:
    ours, theirs = pair
    gevent.spawn(theirs.close)
    with pytest.raises(ClientGone):
        wait_for(Event(), PATIENCE_S, ours)


def test_a_client_that_sends_ahead_has_not_gone_and_loses_nothing(pair: Any) -> None:
    ours, theirs = pair
    event = Event()
    theirs.sendall(b"GET /next")
    gevent.spawn_later(0.01, event.set)
    assert wait_for(event, PATIENCE_S, ours)
    assert ours.recv(100) == b"GET /next"


def test_after_a_wait_the_client_is_no_longer_watched(pair: Any) -> None:
    ours, theirs = pair
    event = Event()
    event.set()
    assert wait_for(event, PATIENCE_S, ours)
    theirs.close()
    gevent.sleep(0.01)


def test_a_killed_wait_leaves_no_watch_behind(pair: Any) -> None:
    ours, theirs = pair
    waiting = gevent.spawn(wait_for, Event(), PATIENCE_S, ours)
    gevent.sleep(0)
    waiting.kill()
    theirs.close()
    gevent.sleep(0.01)
    assert isinstance(waiting.value, gevent.GreenletExit)


# -- deadlines ---------------------------------------------------------------------------------------------------


def test_a_block_that_takes_too_long_raises_what_it_was_told_to() -> None:
    with pytest.raises(TooLate), deadline(0.001, TooLate):
        gevent.sleep(PATIENCE_S)


def test_a_block_in_time_is_left_alone_also_afterwards() -> None:
    with deadline(0.005, TooLate):
        pass
    gevent.sleep(0.02)


def test_an_error_of_the_block_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), deadline(PATIENCE_S, TooLate):
        _ = 1 / 0


def test_of_two_deadlines_the_earlier_is_blamed() -> None:
    class OuterTooLate(Exception):
        pass

    with pytest.raises(OuterTooLate), deadline(0.001, OuterTooLate), deadline(PATIENCE_S, TooLate):
        gevent.sleep(PATIENCE_S)
    with pytest.raises(TooLate), deadline(PATIENCE_S, OuterTooLate), deadline(0.001, TooLate):
        gevent.sleep(PATIENCE_S)


# -- turns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_the_pieces_of_a_body_are_the_body(size: int) -> None:
    body = bytes(size)
    pieces = list(LargeBody(body))
    assert b"".join(pieces) == body
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)


def test_between_two_pieces_others_get_a_turn() -> None:
    turns: list[str] = []

    def other() -> None:
        for _ in range(2):
            turns.append("other")
            gevent.sleep(0)

    greenlet = gevent.spawn(other)
    for _ in LargeBody(bytes(3 * PIECE_BYTES)):
        turns.append("piece")
    greenlet.join()
    assert turns[:3] == ["piece", "other", "piece"] or turns[:4] == ["piece", "other", "other", "piece"]


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
