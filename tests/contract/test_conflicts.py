"""Somebody else commits first: what was decided is decided anew, and told to nobody before (contract, "Failure")."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from durable_streams.protocol.errors import ProducerSeqGap, StreamClosed, StreamNotFound, Unavailable
from durable_streams.protocol.outcomes import Appended
from durable_streams.storage.contract import CommitConflict, Storage
from durable_streams.streams.batch import Limits
from durable_streams.streams.pipeline import CONFLICT_RETRIES_MAX
from tests.contract.driving import KINDS, Kind, Streams, all_at_once, append_request, create_request
from tests.faults import FaultyStorage

QUEUED = next(kind for kind in KINDS if kind.name == "memory-queued")


class Contested(Streams):
    """Streams of which another process changes something in the moment before a commit."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.conflicts = 0
        self.before_conflict: Callable[[], object] = lambda: None
        super().__init__(
            Kind("contested", lambda _: FaultyStorage(QUEUED.build(folder), self._contest)), folder, limits
        )
        inner = self.storage
        assert isinstance(inner, FaultyStorage)
        self.other = Streams(Kind("other", lambda _: _Shared(inner.inner)), folder, limits)

    def _contest(self, primitive: str, number: int) -> Exception | None:
        if primitive != "commit" or not self.conflicts:
            return None
        self.conflicts -= 1
        self.before_conflict()
        return CommitConflict()


class _Shared(FaultyStorage):
    """The same streams as another process sees them."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage, lambda primitive, number: None)


@pytest.fixture
def contested(tmp_path: Path) -> Contested:
    streams = Contested(tmp_path, Limits(memory_bytes_max=1000))
    streams.create(body=b"abc")
    return streams


def test_after_a_conflict_the_request_is_decided_against_what_is_there_now(contested: Contested) -> None:
    contested.conflicts = 1
    contested.before_conflict = lambda: contested.other.append(body=b"other ")
    outcome = contested.append(body=b"mine")
    assert outcome.tail == 13
    assert contested.read() == b"abcother mine"


def test_several_conflicts_in_a_row_are_outlived(contested: Contested) -> None:
    contested.conflicts = CONFLICT_RETRIES_MAX
    contested.before_conflict = lambda: contested.other.append(body=b".")
    contested.append(body=b"mine")
    assert contested.read() == b"abc" + b"." * CONFLICT_RETRIES_MAX + b"mine"


def test_what_the_other_did_can_be_a_reason_to_refuse(contested: Contested) -> None:
    contested.conflicts = 1
    contested.before_conflict = lambda: contested.other.close_stream()
    with pytest.raises(StreamClosed):
        contested.append()
    contested.other.create("t")
    contested.conflicts = 1
    contested.before_conflict = lambda: contested.other.remove("t")
    with pytest.raises(StreamNotFound):
        contested.append("t")


def test_a_request_that_the_other_has_carried_out_is_a_duplicate(contested: Contested) -> None:
    contested.conflicts = 1
    contested.before_conflict = lambda: contested.other.append(body=b"once", producer=("p", 0, 0))
    assert contested.append(body=b"once", producer=("p", 0, 0)).duplicate
    assert contested.read() == b"abconce"


def test_a_refusal_that_rested_on_what_was_not_kept_is_decided_anew_too(contested: Contested) -> None:
    """The gap is one only because the closure before it in the batch was to be kept."""
    contested.conflicts = 1
    contested.before_conflict = lambda: contested.other.append(body=b"0", producer=("p", 0, 0))
    outcomes = all_at_once(
        partial(contested.store.append, append_request(body=b"x")),
        partial(contested.store.append, append_request(body=b"1", producer=("p", 0, 1))),
    )
    assert all(isinstance(outcome, Appended) for outcome in outcomes)
    assert contested.read() == b"abc0x1"
    with pytest.raises(ProducerSeqGap):
        contested.append(producer=("p", 0, 3))


def test_conflicts_without_end_are_answered_and_nothing_is_kept(contested: Contested) -> None:
    before = contested.contents()
    contested.conflicts = 10_000
    outcomes = all_at_once(*[partial(contested.store.append, append_request(body=b"x" * 100))] * 3)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert contested.contents() == before
    contested.conflicts = 0
    # No byte is held by what was given up.
    contested.append(body=b"x" * 997)


def test_bytes_are_held_once_however_often_they_are_decided(contested: Contested) -> None:
    contested.conflicts = 5
    contested.append(body=b"x" * 900)
    contested.append(body=b"x" * 97)
    assert contested.find().tail == 1000


def test_nothing_is_announced_of_what_was_not_kept(contested: Contested) -> None:
    contested.announced.clear()
    contested.conflicts = 3
    contested.append(body=b"mine")
    assert [change.after.tail for change in contested.announced if change.after] == [7]


def test_a_fork_that_the_other_made_first_is_found(contested: Contested) -> None:
    request = create_request("fork", b"", None, source="s")
    contested.conflicts = 1
    contested.before_conflict = lambda: contested.other.store.create(request)
    assert contested.store.create(request).existed
    assert list(contested.find().forks) == [contested.find("fork").config.uid]


def test_the_log_stays_quiet_over_conflicts(contested: Contested, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        contested.conflicts = 2
        contested.append()
    assert caplog.records == []
