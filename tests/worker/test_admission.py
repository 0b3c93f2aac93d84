"""Connections beyond a limit: who is one client, what is counted, and that probes are answered all the same."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import pytest

from durable_streams.addresses import client_of
from durable_streams.worker.admission import BEYOND_MAX, Admission


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_a_client_is_an_address_or_a_network_of_ipv6(one: str, other: str, same: bool) -> None:
    assert (client_of(one) == client_of(other)) is same


def test_a_client_has_so_many_connections_and_others_have_theirs() -> None:
    admission = Admission(100, per_client_max=2)
    addr, other = ("192.0.2.1", 1), ("192.0.2.2", 1)
    assert [admission.enter(addr) for _ in range(3)] == [None, None, "limits.max_connections_per_client = 2"]
    assert admission.enter(other) is None
    # The refused one ends too, and then one that is served.
    admission.leave(addr)
    assert admission.enter(addr) is not None
    admission.leave(addr)
    admission.leave(addr)
    assert admission.enter(addr) is None


def test_nothing_is_kept_of_clients_that_have_gone() -> None:
    admission = Admission(100, per_client_max=1)
    for number in range(1000):
        admission.enter((f"192.0.{number % 256}.{number // 256}", 1))
    for number in range(1000):
        admission.leave((f"192.0.{number % 256}.{number // 256}", 1))
    assert not admission._of_client


def test_the_limit_of_all_counts_those_that_are_served() -> None:
    admission = Admission(2)
    assert [admission.enter("") for _ in range(3)] == [None, None, "server.worker_connections = 2"]
    admission.leave("")
    admission.leave("")
    assert admission.enter("") is None


def test_the_oldest_that_is_beyond_gives_way() -> None:
    admission = Admission(0)
    ended: list[int] = []
    with ExitStack() as connections:
        for number in range(BEYOND_MAX + 3):
            connections.enter_context(admission.answering(partial(ended.append, number)))
        assert ended == [0, 1, 2]
    with admission.answering(partial(ended.append, -1)):
        assert ended == [0, 1, 2]
    assert not admission._beyond
