"""Two stores over one storage, as two processes have it: no stream ends under the other's readers, no fork is lost."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import gevent
import pytest

from durable_streams.protocol.errors import ForkFromDeleted, PathBlocked, StreamGone, StreamNotFound
from durable_streams.protocol.outcomes import Created
from durable_streams.protocol.requests import AddFork
from durable_streams.protocol.state import ORPHAN_AGE_S, RECHECK_DELETED_S
from durable_streams.streams.batch import Limits
from tests.contract.driving import START, Kind, Streams, all_at_once, create_request
from tests.contract.shared_storage import Database, SharedStorage


class Two:
    """Two processes that share a storage and the time."""

    def __init__(self, folder: Path) -> None:
        database = Database()
        self.storages = [SharedStorage(database), SharedStorage(database)]
        self.one, self.other = (
            Streams(Kind("shared", lambda _, storage=storage: storage), folder, Limits())  # type: ignore[misc]
            for storage in self.storages
        )
        self.clock = self.one.clock
        self.other.store._pipeline.clock = self.clock
        self.other.clock = self.clock

    def close(self) -> None:
        self.one.close()
        self.other.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    both = Two(tmp_path)
    yield both
    both.close()


def let_writes_happen() -> None:
    """A touch is recorded in the background, in a few turns of the loop."""
    for _ in range(20):
        gevent.sleep(0)


def is_there(streams: Streams) -> bool:
    try:
        streams.find()
    except StreamNotFound:
        return False
    return True


# -- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ttl", [1, 8, 100, 86400])
def test_a_stream_does_not_expire_under_the_live_reader_of_another_process(two: Two, ttl: int) -> None:
    state = two.one.create(ttl=ttl).state
    two.one.store.attach(state)
    until = START + 3 * ttl
    while two.clock.now < until:
        # As the sweeper of each process does it: it waits until the next window is due, and sweeps.
        due_at = max(two.one.store.record_held(), two.clock.now + 0.01)
        two.clock.now = min(due_at, two.clock.now + 60, until)
        let_writes_happen()
        two.other.store.record_held()
        assert two.other.sweep() == 0
        assert is_there(two.other)
    two.one.store.detach(state)
    two.clock.now += ttl * 1.25
    assert two.other.sweep() == 1
    assert not is_there(two.one)


def test_a_reader_that_is_late_by_an_eighth_still_holds_its_stream(two: Two) -> None:
    state = two.one.create(ttl=80).state
    two.one.store.attach(state)
    two.clock.now = START + 89.9
    assert is_there(two.other)
    two.one.store.record_held()
    let_writes_happen()
    two.clock.now += 89.9
    assert is_there(two.other)


def test_a_read_that_is_not_recorded_yet_counts_for_the_other_process(two: Two) -> None:
    """It is at the most an eighth of the window ahead of what is recorded."""
    two.one.create(ttl=80)
    two.clock.now = START + 9.9
    two.one.store.touch(two.one.find())
    two.clock.now = START + 89.8
    assert is_there(two.one)
    assert is_there(two.other)
    assert two.other.sweep() == 0
    two.clock.now = START + 90
    with pytest.raises(StreamNotFound):
        two.other.append()


def test_a_stop_records_what_the_process_knew_alone(two: Two) -> None:
    two.one.create(ttl=80)
    two.clock.now = START + 9
    two.one.store.touch(two.one.find())
    two.one.store.close()
    two.clock.now = START + 9 + 89.9
    assert is_there(two.other)
    two.one.store.open()


def test_looking_in_turn_keeps_no_stream_alive(two: Two) -> None:
    two.one.create(ttl=8)
    while two.clock.now < START + 9:
        assert is_there(two.one)
        assert is_there(two.other)
        two.one.sweep()
        two.other.sweep()
        two.clock.now += 0.25
    assert not is_there(two.one)
    assert not is_there(two.other)


# -- forks ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["in one step", "in two steps"])
def forking(request: pytest.FixtureRequest, two: Two) -> Two:
    if request.param == "in two steps":
        for storage in two.storages:
            storage.joins = lambda fork, source: False  # type: ignore[method-assign]
    return two


def test_a_fork_and_the_end_of_its_source_that_race_leave_a_fork_that_reads_or_none(forking: Two) -> None:
    for number in range(20):
        source, fork = f"source {number}", f"fork {number}"
        forking.one.create(source, b"abc")
        forking.other.find(source)
        made, _ = all_at_once(
            partial(forking.one.store.create, create_request(fork, b"own", None, source=source)),
            partial(forking.other.store.remove, source),
        )
        if isinstance(made, Created):
            assert forking.other.read(fork) == b"abcown"
            assert forking.one.read(fork) == b"abcown"
            forking.other.remove(fork)
        else:
            assert isinstance(made, StreamNotFound | StreamGone | ForkFromDeleted | PathBlocked)
        assert not [name for name in forking.one.contents() if name == fork]
    # Two processes that retry may leave a reference, which the sweeper finds.
    forking.clock.now += RECHECK_DELETED_S
    forking.one.sweep()
    assert forking.one.contents() == {}


def test_a_sweep_by_another_process_takes_no_fork_that_is_being_made_for_an_orphan(forking: Two) -> None:
    """The reference is there, and the fork is not; nobody but the process that makes it knows."""
    source = forking.one.create(body=b"abc", ttl=10).state
    forking.one.store._pipeline.submit(AddFork("s", source.config.uid, "uid", "fork"))
    taken_at = forking.clock.now
    forking.clock.now += forking.one.window(10)
    forking.other.sweep()
    with pytest.raises(StreamGone):
        forking.one.find()
    forking.clock.now = taken_at + ORPHAN_AGE_S - 1
    forking.other.sweep()
    assert "s" in forking.one.contents()
    forking.clock.now += 1
    forking.other.sweep()
    assert forking.one.contents() == {}


def test_of_two_processes_that_make_one_fork_one_does(forking: Two) -> None:
    forking.one.create(body=b"abc")
    forking.other.find()
    request = create_request("fork", b"own", None, source="s")
    outcomes = all_at_once(
        partial(forking.one.store.create, request), partial(forking.other.store.create, request)
    )
    assert sorted(outcome.existed for outcome in outcomes if isinstance(outcome, Created)) == [False, True]
    assert list(forking.other.find().forks) == [forking.one.find("fork").config.uid]


def test_forks_that_end_at_two_processes_release_their_source_once(forking: Two) -> None:
    forking.one.create(body=b"abc")
    for name in ("f", "g"):
        forking.one.fork(name)
    forking.other.remove()
    all_at_once(partial(forking.one.store.remove, "f"), partial(forking.other.store.remove, "g"))
    assert forking.one.contents() == {}
