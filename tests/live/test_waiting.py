"""Waiting no longer than the client does."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from durable_streams.eventloop.live_socket import WatchedSocket
from durable_streams.live.waiting import ClientGone, wait_for

PATIENCE_S = 180.0


@pytest.fixture
def pair() -> Any:
    ours, theirs = socket.socketpair()
    with gevent.Timeout(PATIENCE_S):
        yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("watched", [False, True])
def test_a_wait_ends_with_the_event_or_the_time(watched: bool, pair: Any) -> None:
    client = WatchedSocket(pair[0] if watched else None)
    event = Event()
    assert not wait_for(event, 0.001, client)
    gevent.spawn(event.set)
    assert wait_for(event, PATIENCE_S, client)
    assert wait_for(event, 0, client)


def test_a_wait_ends_when_the_client_hangs_up(pair: Any) -> None:
    ours, theirs = pair
    gevent.spawn(theirs.close)
    with pytest.raises(ClientGone):
        wait_for(Event(), PATIENCE_S, WatchedSocket(ours))


def test_a_client_that_sends_ahead_has_not_gone_and_loses_nothing(pair: Any) -> None:
    ours, theirs = pair
    event = Event()
    theirs.sendall(b"GET /next")
    gevent.spawn_later(0.01, event.set)
    assert wait_for(event, PATIENCE_S, WatchedSocket(ours))
    assert ours.recv(100) == b"GET /next"


def test_after_a_wait_the_client_is_no_longer_watched(pair: Any) -> None:
    ours, theirs = pair
    event = Event()
    event.set()
    assert wait_for(event, PATIENCE_S, WatchedSocket(ours))
    theirs.close()
    gevent.sleep(0.01)


def test_a_killed_wait_leaves_no_watch_behind(pair: Any) -> None:
    ours, theirs = pair
    waiting = gevent.spawn(wait_for, Event(), PATIENCE_S, WatchedSocket(ours))
    gevent.sleep(0)
    waiting.kill()
    theirs.close()
    gevent.sleep(0.01)
    assert isinstance(waiting.value, gevent.GreenletExit)
