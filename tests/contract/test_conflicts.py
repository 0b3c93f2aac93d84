"""Another process commits first: what rested on the old state is decided again, and told to nobody before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from durable_streams.protocol.errors import (
    ProducerSeqGap,
    StreamClosed,
    StreamExists,
    StreamNotFound,
    Unavailable,
)
from durable_streams.protocol.outcomes import Appended
from durable_streams.streams.batch import Limits
from durable_streams.streams.pipeline import LOSSES_MAX
from tests.contract.driving import Kind, Streams, all_at_once, append_request, create_request
from tests.contract.shared_storage import Database, SharedStorage


class Contested(Streams):
    """Streams of which another process changes something in the moment before a commit."""

    def __init__(self, folder: Path) -> None:
        self.conflicts = 0
        self.before_conflict: Callable[[], object] = lambda: None
        self.shared = SharedStorage(Database())
        self.shared.before_commit = self._contest
        super().__init__(Kind("contested", lambda _: self.shared), folder, Limits())
        other = SharedStorage(self.shared.database)
        self.other = Streams(Kind("other", lambda _: other), folder, Limits())

    def _contest(self) -> None:
        if self.conflicts:
            self.conflicts -= 1
            self.before_conflict()


@pytest.fixture
def contested(tmp_path: Path) -> Iterator[Contested]:
    streams = Contested(tmp_path)
    streams.create(body=b"abc")
    yield streams
    streams.close()
    streams.other.close()


def test_after_a_conflict_the_request_is_decided_against_what_is_there_now(contested: Contested) -> None:
    contested.conflicts = 1
    contested.before_conflict = lambda: contested.other.append(body=b"other ")
    outcome = contested.append(body=b"mine")
    assert outcome.tail == 13
    assert contested.shared.losses == 1
    assert contested.read() == b"abcother mine"


def test_several_conflicts_in_a_row_are_outlived(contested: Contested) -> None:
    contested.conflicts = LOSSES_MAX
    contested.before_conflict = lambda: contested.other.append(body=b".")
    contested.append(body=b"mine")
    assert contested.read() == b"abc" + b"." * LOSSES_MAX + b"mine"


def test_what_the_other_did_can_be_a_reason_to_refuse(contested: Contested) -> None:
    contested.conflicts = 1
    contested.before_conflict = lambda: contested.other.close_stream()
    with pytest.raises(StreamClosed):
        contested.append()
    contested.other.create("t")
    contested.append("t")
    contested.conflicts = 1
    contested.before_conflict = lambda: contested.other.remove("t")
    with pytest.raises(StreamNotFound):
        contested.append("t")


def test_a_refusal_from_an_old_state_is_never_given(contested: Contested) -> None:
    """Deleted and made again by the other: to this process it is closed, or absent, and has a gap."""
    contested.close_stream()
    contested.other.remove()
    contested.other.create(body=b"new ")
    assert contested.append(body=b"one").tail == 7
    with pytest.raises(StreamNotFound):
        contested.append("t")
    contested.other.create("t")
    assert contested.append("t", b"two").tail == 3
    contested.other.append(producer=("p", 0, 0))
    assert not contested.append(producer=("p", 0, 1)).duplicate
    contested.other.close_stream()
    with pytest.raises(StreamExists):
        contested.create()


def test_a_duplicate_from_an_old_state_is_never_given(contested: Contested) -> None:
    contested.append(body=b"once", producer=("p", 0, 0))
    contested.other.remove()
    contested.other.create()
    assert not contested.append(body=b"once", producer=("p", 0, 0)).duplicate
    assert contested.read() == b"once"


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


def test_of_a_batch_only_what_was_lost_is_decided_again(contested: Contested) -> None:
    shard = contested.shared.shard_of("s")
    others = [name for name in map(str, range(20)) if contested.shared.shard_of(name) == shard][:3]
    for name in others:
        contested.create(name)
    contested.announced.clear()
    contested.conflicts = 1
    contested.before_conflict = lambda: contested.other.append(body=b"other ")
    outcomes = all_at_once(
        *[partial(contested.store.append, append_request(name, b"x")) for name in ("s", *others)]
    )
    assert [outcome.tail for outcome in outcomes if isinstance(outcome, Appended)] == [10, 1, 1, 1]
    assert contested.shared.losses == 1
    assert [change.name for change in contested.announced] == [*others, "s"]
    assert [contested.find(name).revision for name in others] == [2, 2, 2]


def test_what_lost_stays_before_what_came_later(contested: Contested) -> None:
    contested.conflicts = 1
    contested.before_conflict = lambda: contested.other.append(body=b"other ")
    bodies = [b"%d" % number for number in range(6)]
    all_at_once(*[partial(contested.store.append, append_request(body=body)) for body in bodies])
    assert contested.shared.losses == 1
    assert contested.read() == b"abcother 012345"


def test_conflicts_without_end_are_answered_and_nothing_is_kept(contested: Contested) -> None:
    contested.conflicts = 10_000
    contested.before_conflict = lambda: contested.other.append(body=b".")
    outcomes = all_at_once(*[partial(contested.store.append, append_request(body=b"x" * 100))] * 3)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert set(contested.other.read()) == set(b"abc.")
    contested.conflicts = 0
    contested.append(body=b"x")
    assert contested.read().endswith(b".x")


def test_nothing_is_announced_of_what_was_not_kept(contested: Contested) -> None:
    contested.announced.clear()
    contested.conflicts = 3
    contested.before_conflict = lambda: contested.other.append(body=b".")
    contested.append(body=b"mine")
    assert [change.after.tail for change in contested.announced if change.after] == [10]


def test_a_fork_that_the_other_made_first_is_found(contested: Contested) -> None:
    request = create_request("fork", b"", None, source="s")
    contested.conflicts = 1
    contested.before_conflict = lambda: contested.other.store.create(request)
    assert contested.store.create(request).existed
    assert list(contested.find().forks) == [contested.find("fork").config.uid]


def test_the_log_stays_quiet_over_conflicts(contested: Contested, caplog: pytest.LogCaptureFixture) -> None:
    contested.before_conflict = lambda: contested.other.append(body=b".")
    with caplog.at_level(logging.WARNING):
        contested.conflicts = 2
        contested.append()
    assert caplog.records == []
