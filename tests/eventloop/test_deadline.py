"""Deadlines: the block that takes too long, the one that does not, and the limit on silence alone."""

from __future__ import annotations

import gevent
import pytest
from gevent import socket

from durable_streams.eventloop.deadline import deadline, silence_limit

PATIENCE_S = 180.0


class TooLate(Exception):
    pass


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


# -- silence -----------------------------------------------------------------------------------------------------


def test_a_socket_that_is_silent_for_too_long_raises() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError), silence_limit(ours, 0.001):
        ours.recv(1)


def test_the_limit_of_a_socket_is_restored_whatever_happens() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(7.0)
        with pytest.raises(ZeroDivisionError), silence_limit(ours, 3.0):
            _ = 1 / (ours.gettimeout() - 3.0)
        assert ours.gettimeout() == 7.0


def test_without_a_socket_the_whole_block_is_limited() -> None:
    with pytest.raises(TimeoutError), silence_limit(None, 0.001):
        gevent.sleep(PATIENCE_S)
    with silence_limit(None, PATIENCE_S):
        pass
