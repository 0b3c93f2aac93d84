"""One batch: requests see each other's pending states, refused ones leave no trace, bytes are counted exactly."""

from __future__ import annotations

import pytest

from durable_streams.protocol.errors import (
    ProducerSeqGap,
    StreamClosed,
    StreamExists,
    StreamNotFound,
    TooLarge,
)
from durable_streams.protocol.outcomes import Appended, Created, Removed
from durable_streams.protocol.requests import Append, Create, Identity, Producer, Remove, RemoveFork
from durable_streams.protocol.state import NO_EXPIRY, ForkPoint, ForkReference, StreamState
from durable_streams.storage.contract import Change
from durable_streams.streams.batch import Batch, Limits
from durable_streams.streams.budget import MemoryBudget

NOW = 1000.0
PLENTY = 1 << 30

pytestmark = pytest.mark.usefixtures("payload_alone")


class Batches:
    """Makes batches over recorded states, and records what a batch changes."""

    def __init__(self, **limits: int) -> None:
        self.states: dict[str, StreamState] = {}
        self.apart: set[str] = set()
        """Forks that cannot be committed together with their source."""
        self.limits = Limits(**limits)
        self.held = MemoryBudget(self.limits.memory_bytes_max or PLENTY)

    def begin(self) -> Batch:
        def joins(fork: str, source: str) -> bool:
            return fork not in self.apart

        return Batch(lambda name, now: self.states.get(name), joins, self.limits, self.held, NOW)

    def keep(self, batch: Batch) -> None:
        for change in (change for unit in batch.units() for change in unit):
            if change.after is None:
                del self.states[change.name]
            else:
                self.states[change.name] = change.after


def changes(batch: Batch) -> list[Change]:
    """What is to be committed; every change is a unit of its own."""
    return [change for (change,) in batch.units()]


def create(name: str = "s", body: bytes = b"", uid: str = "1") -> Create:
    return Create(name, "text/plain", NO_EXPIRY, False, body, identity=Identity(uid, 0))


def append(body: bytes, name: str = "s", close: bool = False, producer: Producer | None = None) -> Append:
    return Append(name, "text/plain", body, close, None, producer)


def test_requests_of_one_stream_become_one_change() -> None:
    batches = Batches()
    batch = batches.begin()
    batch.decide(create(body=b"a"))
    batch.decide(append(b"b"))
    last = batch.decide(append(b"c", close=True))
    assert isinstance(last, Appended)
    assert (last.tail, last.closed) == (3, True)
    (change,) = changes(batch)
    assert (change.before, change.appended) == (None, [b"a", b"b", b"c"])
    assert change.after is not None
    assert (change.after.tail, change.after.closed) == (3, True)
    assert change.is_new


def test_requests_see_what_those_before_them_have_changed() -> None:
    batch = Batches().begin()
    with pytest.raises(StreamNotFound):
        batch.decide(append(b"too early"))
    batch.decide(create())
    batch.decide(append(b"x", producer=Producer("p", 0, 0)))
    again = batch.decide(append(b"x", producer=Producer("p", 0, 0)))
    assert isinstance(again, Appended)
    assert again.duplicate
    with pytest.raises(ProducerSeqGap):
        batch.decide(append(b"x", producer=Producer("p", 0, 2)))
    batch.decide(append(b"", close=True))
    with pytest.raises(StreamClosed):
        batch.decide(append(b"too late"))
    with pytest.raises(StreamExists):
        batch.decide(create())
    (change,) = changes(batch)
    assert change.appended == [b"x"]


def test_what_changes_nothing_is_no_change() -> None:
    batches = Batches()
    first = batches.begin()
    first.decide(create(body=b"a"))
    batches.keep(first)
    second = batches.begin()
    found = second.decide(create(body=b"other", uid="2"))
    assert isinstance(found, Created)
    assert found.existed
    assert changes(second) == []


def test_a_stream_that_comes_and_goes_within_a_batch_is_no_change() -> None:
    batches = Batches()
    batch = batches.begin()
    batch.decide(create(body=b"abc"))
    batch.decide(Remove("s"))
    assert changes(batch) == []
    assert batches.held.total == 0


def test_a_stream_that_is_replaced_carries_only_the_bytes_of_the_new_one() -> None:
    batches = Batches()
    first = batches.begin()
    first.decide(create(body=b"old"))
    batches.keep(first)
    second = batches.begin()
    second.decide(append(b" more"))
    second.decide(Remove("s"))
    second.decide(create(body=b"new", uid="2"))
    second.decide(append(b" er"))
    (change,) = changes(second)
    assert change.before is batches.states["s"]
    assert (change.appended, change.is_new) == ([b"new", b" er"], True)
    assert batches.held.total == len(b"new er")


def test_a_removal_after_appends_carries_no_bytes() -> None:
    batches = Batches()
    first = batches.begin()
    first.decide(create(body=b"old"))
    batches.keep(first)
    second = batches.begin()
    second.decide(append(b"x"))
    second.decide(Remove("s"))
    (change,) = changes(second)
    assert (change.after, change.appended, change.name) == (None, [], "s")


def test_the_limit_on_memory_counts_the_bytes_of_undecided_batches() -> None:
    batches = Batches(memory_bytes_max=10)
    first, second = batches.begin(), batches.begin()
    first.decide(create("a", b"1234"))
    second.decide(create("b", b"123456"))
    with pytest.raises(TooLarge):
        first.decide(append(b"x", "a"))
    # The second was not kept: its bytes are free again, and only once.
    for _ in range(2):
        second.roll_back()
    assert batches.held.total == 4
    first.decide(append(b"123456", "a"))
    with pytest.raises(TooLarge):
        first.decide(append(b"x", "a"))
    (change,) = changes(first)
    assert change.appended == [b"1234", b"123456"]


def test_a_refused_request_leaves_no_trace() -> None:
    batches = Batches(memory_bytes_max=5, stream_bytes_max=4)
    batch = batches.begin()
    batch.decide(create("a", b"123"))
    before = changes(batch)[0].after
    for refused in (append(b"45", "a", producer=Producer("p", 0, 0)), create("b", b"123", "2")):
        with pytest.raises(TooLarge):
            batch.decide(refused)
    (change,) = changes(batch)
    assert (change.after is before, change.appended, batches.held.total) == (True, [b"123"], 3)


def test_what_is_lost_is_taken_out_of_the_batch_and_of_the_bytes_held() -> None:
    batches = Batches(memory_bytes_max=10)
    batch = batches.begin()
    batch.decide(create("a", b"1234"))
    batch.decide(create("b", b"123456"))
    batch.roll_back(["b", "never heard of"])
    assert [change.name for change in changes(batch)] == ["a"]
    assert batches.held.total == 4
    batch.decide(append(b"123456", "a"))


def test_answers_rest_on_every_state_that_nothing_in_the_batch_changes() -> None:
    batches = Batches()
    first = batches.begin()
    first.decide(create("changed", b"a"))
    first.decide(create("duplicate", b"b"))
    batches.keep(first)
    batch = batches.begin()
    batch.decide(append(b"c", "changed"))
    batch.decide(create("duplicate", b"other", "2"))
    with pytest.raises(StreamNotFound):
        batch.decide(append(b"d", "absent"))
    batch.decide(create("came and went", b"e"))
    batch.decide(Remove("came and went"))
    assert batch.rests_on() == {
        "duplicate": batches.states["duplicate"],
        "absent": None,
        "came and went": None,
    }


def test_a_state_is_looked_up_once_and_every_step_is_one_revision() -> None:
    batches, asked = Batches(), []

    def known(name: str, now: float) -> StreamState | None:
        asked.append(name)
        return None

    batch = Batch(known, lambda fork, source: True, batches.limits, batches.held, NOW)
    with pytest.raises(StreamNotFound):
        batch.decide(append(b"too early"))
    batch.decide(create())
    batch.decide(append(b"x"))
    batch.decide(append(b"y"))
    (change,) = changes(batch)
    assert change.after is not None
    assert (asked, change.after.revision) == (["s"], 3)


# -- units ------------------------------------------------------------------------------------------------------------


SOURCE = create("s", b"abc", uid="of s")


def fork(name: str = "f", uid: str = "of f", source_uid: str = "of s") -> Create:
    point = ForkPoint("s", source_uid, 3, 3, 0, inherits_expiry=True, life=1)
    return Create(name, "text/plain", NO_EXPIRY, False, b"own", identity=Identity(uid, 0), fork_point=point)


def with_source(*forks: str) -> Batches:
    """Recorded: the stream ``s``, and forks of it."""
    batches = Batches()
    batch = batches.begin()
    batch.decide(SOURCE)
    for name in forks:
        batch.decide(fork(name, f"of {name}"))
    batches.keep(batch)
    return batches


def units(batch: Batch) -> list[set[str]]:
    return [{change.name for change in unit} for unit in batch.units()]


def test_a_fork_is_one_unit_with_the_reference_at_its_source() -> None:
    batch = with_source().begin()
    batch.decide(create("alone"))
    batch.decide(fork())
    batch.decide(append(b"x", "s"))
    assert units(batch) == [{"alone"}, {"f", "s"}]
    ((fork_change, source_change),) = [unit for unit in batch.units() if len(unit) == 2]
    assert source_change.after is not None
    assert source_change.after.forks == {"of f": ForkReference("f", NOW)}
    assert (fork_change.appended, source_change.appended) == ([b"own"], [b"x"])


def test_a_fork_whose_source_refuses_leaves_no_trace() -> None:
    batches = with_source()
    batch = batches.begin()
    with pytest.raises(StreamNotFound):
        batch.decide(fork(source_uid="of an older one"))
    batch.decide(Remove("s"))
    with pytest.raises(StreamNotFound):
        batch.decide(fork())
    assert [change.name for change in changes(batch)] == ["s"]
    assert batches.held.total == 0


def test_the_end_of_a_fork_is_one_unit_with_the_release_up_the_chain() -> None:
    batches = with_source("f")
    deleting = batches.begin()
    deleting.decide(Remove("s"))
    batches.keep(deleting)
    batch = batches.begin()
    removed = batch.decide(Remove("f"))
    assert isinstance(removed, Removed)
    assert (removed.then, removed.released) == (None, None)
    (unit,) = batch.units()
    assert [(change.name, change.after) for change in unit] == [("f", None), ("s", None)]


def test_a_release_that_changes_nothing_is_left_to_be_decided_by_itself() -> None:
    """Of a shared storage its source may only not be known here; a unit confirms nothing that it does not change."""
    batches = with_source("f")
    del batches.states["s"]
    batch = batches.begin()
    removed = batch.decide(Remove("f"))
    assert isinstance(removed, Removed)
    assert removed.then == RemoveFork("s", "of s", "of f")
    assert batch.with_units({"s"}) == {"s"}


def test_a_removal_tells_what_its_source_is_now() -> None:
    batch = with_source("f", "g").begin()
    removed = batch.decide(Remove("f"))
    assert isinstance(removed, Removed)
    assert removed.released is not None
    assert list(removed.released.forks) == ["of g"]


def test_where_the_storage_does_not_join_them_the_second_step_is_left() -> None:
    batches = with_source("f")
    batches.apart = {"f"}
    batch = batches.begin()
    removed = batch.decide(Remove("f"))
    assert isinstance(removed, Removed)
    assert removed.then == RemoveFork("s", "of s", "of f")
    assert units(batch) == [{"f"}]


def test_with_one_stream_of_a_unit_all_of_it_is_lost() -> None:
    batches = with_source()
    batch = batches.begin()
    batch.decide(fork())
    batch.decide(fork("g", "of g"))
    batch.decide(create("alone", b"xy"))
    assert batch.with_units({"g"}) == {"f", "g", "s"}
    batch.roll_back(batch.with_units({"g"}))
    assert units(batch) == [{"alone"}]
    assert batches.held.total == 3 + 2


def test_a_refusal_is_lost_with_the_source_that_it_rests_on() -> None:
    """Its request names the fork; what it was decided on is the source too."""
    batch = with_source().begin()
    with pytest.raises(StreamNotFound):
        batch.decide(fork(source_uid="of an older one"))
    assert set(batch.rests_on()) == {"f", "s"}
    assert batch.with_units({"s"}) == {"f", "s"}
