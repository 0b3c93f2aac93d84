"""The sweeper over every storage: in groups that share commits, faster than streams are created, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from durable_streams.protocol.errors import Unavailable
from durable_streams.streams.batch import Limits
from durable_streams.streams.pipeline import BATCH_REQUESTS_MAX
from durable_streams.streams.sweeper import LEASE_S, SWEEP_STREAMS_MAX, Sweeper
from tests.contract.driving import SECONDS_MAX, START, Kind, Streams, create_request
from tests.contract.shared_storage import Database, SharedStorage
from tests.faults import FaultyStorage


@pytest.fixture(autouse=True)
def batches_that_are_not_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a crowded machine does to the time for deciding must not change what shares a commit."""
    monkeypatch.setattr("durable_streams.streams.pipeline.BATCH_DECIDING_S_MAX", SECONDS_MAX)


class Counted(Streams):
    """Streams whose commits are counted."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.commits = 0
        counted = Kind(kind.name, lambda path: FaultyStorage(kind.build(path), self._count))
        super().__init__(counted, folder, Limits())

    def _count(self, primitive: str, number: int) -> Exception | None:
        self.commits += primitive == "commit"
        return None

    def create_expired(self, count: int) -> None:
        creators = [
            gevent.spawn(self.store.create, create_request(f"s{number}", b"x", expires_at=START))
            for number in range(count)
        ]
        gevent.joinall(creators, raise_error=True)


@pytest.fixture
def counted(kind: Kind, tmp_path: Path) -> Iterator[Counted]:
    streams = Counted(kind, tmp_path / "data")
    yield streams
    streams.close()


def test_expired_streams_are_removed_with_few_commits(counted: Counted) -> None:
    counted.create_expired(2 * SWEEP_STREAMS_MAX)
    counted.commits = 0
    assert counted.store.sweep(SWEEP_STREAMS_MAX) == SWEEP_STREAMS_MAX
    assert counted.commits <= counted.storage.shards
    assert counted.store.sweep(SWEEP_STREAMS_MAX) == SWEEP_STREAMS_MAX
    assert counted.contents() == {}


def test_expired_forks_take_their_deleted_sources_with_them_in_few_commits(counted: Counted) -> None:
    """Also where a fork and its source lie in two shards: then in one more step for all."""
    for number in range(40):
        counted.create(f"source {number}", b"abc")
        counted.fork(f"fork {number}", f"source {number}", expires_at=START + 1)
        counted.remove(f"source {number}")
    counted.clock.now += 1
    counted.commits = 0
    assert counted.sweep() == 40
    assert counted.commits <= 2 * counted.storage.shards
    assert counted.contents() == {}


def test_a_sweep_outruns_those_who_create_streams(counted: Counted) -> None:
    """It ends, with less than a step left, while a hundred clients create expired streams as fast as they can."""
    counted.create_expired(3 * SWEEP_STREAMS_MAX)
    closing, done = Event(), Event()
    created = [0]

    def create_until_done() -> None:
        while not done.is_set():
            created[0] += 1
            counted.store.create(create_request(f"new {created[0]}", b"x", expires_at=START))
            gevent.sleep(0)

    creators = [gevent.spawn(create_until_done) for _ in range(100)]
    try:
        with gevent.Timeout(SECONDS_MAX):
            Sweeper(counted.store)._sweep(closing)
    finally:
        left = len(counted.storage.names("", "", 1_000_000))
        done.set()
        gevent.joinall(creators, raise_error=True)
    assert created[0] > 0
    assert left < SWEEP_STREAMS_MAX + len(creators)


def test_a_step_of_a_sweep_fits_into_a_batch() -> None:
    assert SWEEP_STREAMS_MAX <= BATCH_REQUESTS_MAX


# -- two processes --------------------------------------------------------------------------------------------------


class Process(Streams):
    """One of those that share a database, with its sweeper."""

    def __init__(self, name: str, folder: Path, database: Database) -> None:
        super().__init__(Kind(name, lambda _: SharedStorage(database)), folder, Limits())
        self.sweeper = Sweeper(self.store)
        self.swept = 0
        sweep = self.store.sweep

        def counting(limit: int = 1000) -> int:
            self.swept += 1
            return sweep(limit)

        self.store.sweep = counting  # type: ignore[method-assign]

    def round(self) -> None:
        self.sweeper._round(Event())


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[Process]]:
    database = Database()
    both = [Process(name, tmp_path, database) for name in ("one", "other")]
    yield both
    for process in both:
        process.close()


def pass_time(processes: list[Process], seconds: float) -> None:
    for process in processes:
        process.clock.now += seconds


def test_one_of_two_processes_sweeps(processes: list[Process]) -> None:
    one, other = processes
    for _ in range(40):
        one.round()
        other.round()
        pass_time(processes, 1)
    assert (one.swept, other.swept) == (40, 0)


def test_another_process_takes_over_when_the_first_stops(processes: list[Process]) -> None:
    one, other = processes
    one.round()
    other.round()
    closing = Event()
    closing.set()
    one.sweeper.run(closing)
    pass_time(processes, LEASE_S / 3)
    other.round()
    assert (one.swept, other.swept) == (1, 1)


def test_another_process_takes_over_when_the_first_is_killed(processes: list[Process]) -> None:
    one, other = processes
    one.round()
    for _ in range(int(LEASE_S) - 1):
        other.round()
        pass_time(processes, 1)
    assert other.swept == 0
    pass_time(processes, LEASE_S / 3)
    other.round()
    assert other.swept == 1
    # The first one was only slow: it notices.
    one.round()
    assert one.swept == 1


def test_who_cannot_renew_the_lease_stops_sweeping_at_its_end(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unavailable(*arguments: object) -> None:
        raise Unavailable("no network")

    one, _ = processes
    one.round()
    monkeypatch.setattr(one.store.leases, "acquire", unavailable)
    pass_time(processes, LEASE_S)
    one.round()
    assert one.swept == 1
    assert "sweeping expired streams failed" in caplog.text
    monkeypatch.undo()
    one.round()
    assert one.swept == 2


def test_every_process_records_the_windows_of_its_own_readers(processes: list[Process]) -> None:
    one, other = processes
    one.round()
    state = other.create(ttl=8).state
    other.store.attach(state)
    assert other.sweeper._round(Event()) == 1.0
    pass_time(processes, 1)
    other.round()
    for _ in range(20):
        gevent.sleep(0)
    assert one.find().touched_at == START + 1


def test_short_windows_are_recorded_more_often_than_once_a_second(streams: Streams) -> None:
    state = streams.create(ttl=2).state
    sweeper = Sweeper(streams.store)
    assert sweeper._round(Event()) == 1.0
    streams.store.attach(state)
    assert sweeper._round(Event()) == 0.25
    streams.store.detach(state)
