"""Leases: one holder at a time, takeover after the end, and a generation that fences whoever was too slow."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from durable_streams.streams.batch import Limits
from durable_streams.streams.internal.leases import Lease, Leases
from tests.contract.driving import START, Kind, Streams, all_at_once
from tests.contract.shared_storage import Database, SharedStorage


def leases_of(streams: Streams) -> Leases:
    return streams.store.leases


def taken(lease: object) -> Lease:
    assert isinstance(lease, Lease)
    return lease


def test_one_holds_it_and_nobody_else_does(streams: Streams) -> None:
    leases = leases_of(streams)
    lease = taken(leases.acquire("task", "one", 10))
    assert (lease.holder, lease.expires_at) == ("one", START + 10)
    assert leases.acquire("task", "other", 10) is None
    assert leases.acquire("another task", "other", 10) is not None
    assert leases.is_current(lease)


def test_who_holds_it_gets_it_again_with_the_same_generation(streams: Streams) -> None:
    lease = taken(leases_of(streams).acquire("task", "one", 10))
    streams.clock.now += 5
    again = taken(leases_of(streams).acquire("task", "one", 10))
    assert (again.generation, again.expires_at) == (lease.generation, START + 15)


def test_it_lasts_as_long_as_it_is_renewed(streams: Streams) -> None:
    lease = taken(leases_of(streams).acquire("task", "one", 10))
    for _ in range(5):
        streams.clock.now += 9.9
        lease = taken(leases_of(streams).renew(lease, 10))
        assert leases_of(streams).acquire("task", "other", 10) is None
    streams.clock.now += 10
    assert not leases_of(streams).is_current(lease)
    assert leases_of(streams).renew(lease, 10) is None


def test_who_takes_over_fences_the_one_before(streams: Streams) -> None:
    lease = taken(leases_of(streams).acquire("task", "one", 10))
    streams.clock.now += 10
    successor = taken(leases_of(streams).acquire("task", "other", 10))
    assert successor.generation > lease.generation
    assert leases_of(streams).renew(lease, 10) is None
    assert not leases_of(streams).is_current(lease)
    leases_of(streams).release(lease)
    assert leases_of(streams).is_current(successor)
    assert leases_of(streams).acquire("task", "one", 10) is None


def test_what_is_released_is_free_at_once(streams: Streams) -> None:
    lease = taken(leases_of(streams).acquire("task", "one", 10))
    leases_of(streams).release(lease)
    assert not leases_of(streams).is_current(lease)
    assert leases_of(streams).renew(lease, 10) is None
    successor = taken(leases_of(streams).acquire("task", "other", 10))
    assert successor.generation > lease.generation
    # Twice is once.
    leases_of(streams).release(lease)
    assert leases_of(streams).is_current(successor)


def test_generations_grow_over_restarts_and_with_a_clock_that_stands(lasting: Streams) -> None:
    generations = []
    for number in range(3):
        for _ in range(3):
            lease = taken(leases_of(lasting).acquire("task", f"holder {number}", 10))
            generations.append(lease.generation)
            leases_of(lasting).release(lease)
        lasting.reopen()
        lasting.clock.now += 0.001
    assert generations == sorted(set(generations))


def test_a_storage_of_one_process_is_not_written_to_for_leases(streams: Streams) -> None:
    """A server that does nothing does not sync every few seconds, and a restart need not wait for the one before."""
    taken(leases_of(streams).acquire("task", "one", 10))
    assert bool(streams.contents()) is streams.storage.shared


# -- two stores over one storage ------------------------------------------------------------------------------------


class Two:
    """Two processes with a clock each."""

    def __init__(self, folder: Path) -> None:
        database = Database()
        self.streams = [
            Streams(Kind(name, lambda _: SharedStorage(database)), folder, Limits())
            for name in ("one", "other")
        ]
        self.one, self.other = map(leases_of, self.streams)

    def wait(self, seconds: float) -> None:
        for streams in self.streams:
            streams.clock.now += seconds


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    both = Two(tmp_path)
    yield both
    for streams in both.streams:
        streams.close()


@pytest.mark.parametrize("before", ["never held", "expired", "released"])
def test_of_two_processes_that_race_for_a_lease_one_gets_it(two: Two, before: str) -> None:
    if before != "never held":
        lease = taken(two.other.acquire("task", "older", 10))
        if before == "released":
            two.other.release(lease)
        else:
            two.wait(10)
    outcomes = all_at_once(
        partial(two.one.acquire, "task", "one", 10), partial(two.other.acquire, "task", "other", 10)
    )
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Lease)]
    assert two.one.is_current(winner)
    assert two.other.is_current(winner)


def test_another_process_takes_over_after_the_end_and_fences_the_first(two: Two) -> None:
    lease = taken(two.one.acquire("task", "one", 10))
    two.wait(9.9)
    assert two.other.acquire("task", "other", 10) is None
    two.wait(0.1)
    successor = taken(two.other.acquire("task", "other", 10))
    assert successor.generation > lease.generation
    assert two.one.renew(lease, 10) is None
    assert not two.one.is_current(lease)
    assert two.one.acquire("task", "one", 10) is None


def test_a_renewal_and_a_takeover_that_race_leave_one_holder(two: Two) -> None:
    lease = taken(two.one.acquire("task", "one", 10))
    two.streams[1].clock.now += 10
    renewed, stolen = all_at_once(
        partial(two.one.renew, lease, 10), partial(two.other.acquire, "task", "other", 10)
    )
    assert (renewed is None) != (stolen is None)


def test_a_clock_that_runs_behind_gives_no_older_generation(two: Two) -> None:
    lease = taken(two.one.acquire("task", "one", 10))
    two.one.release(lease)
    two.streams[1].clock.now -= 3600
    assert taken(two.other.acquire("task", "other", 10)).generation > lease.generation
