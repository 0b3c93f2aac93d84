"""Forks: the nine rows of the lifetime table, references, and soft deletion (section 4.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from durable_streams.protocol.errors import (
    BadRequest,
    ContentTypeMismatch,
    ForkFromDeleted,
    StreamDamaged,
    StreamGone,
    StreamNotFound,
)
from durable_streams.protocol.forking import (
    anchor_of,
    check_content_type,
    check_fork_position,
    decide_add_fork,
    decide_remove,
    decide_remove_fork,
    decide_touch,
    fork_expiry,
    fork_point,
    fork_request,
    lost_source,
    require_source,
)
from durable_streams.protocol.offsets import Offset
from durable_streams.protocol.outcomes import Decision, Done, Removed
from durable_streams.protocol.requests import (
    UNLIMITED,
    AddFork,
    Create,
    ForkSource,
    Identity,
    Inherited,
    Remove,
    RemoveFork,
    Touch,
)
from durable_streams.protocol.state import NO_EXPIRY, Expiry, ForkPoint, StreamState
from tests.protocol.states import LIFE, NOW, references, stream

TTL, OWN_TTL = Expiry(ttl_s=60), Expiry(ttl_s=90)
DEADLINE = Expiry(expires_at=NOW + 60, expires_at_text="2027-01-15T08:01:00Z")
OWN_DEADLINE = Expiry(expires_at=NOW + 600, expires_at_text="2027-01-15T08:10:00Z")


@pytest.mark.parametrize(
    ("source", "requested", "fork_gets"),
    [
        (NO_EXPIRY, NO_EXPIRY, NO_EXPIRY),
        (NO_EXPIRY, OWN_TTL, OWN_TTL),
        (NO_EXPIRY, OWN_DEADLINE, OWN_DEADLINE),
        (TTL, NO_EXPIRY, TTL),
        (TTL, OWN_TTL, OWN_TTL),
        (TTL, OWN_DEADLINE, OWN_DEADLINE),
        (DEADLINE, NO_EXPIRY, DEADLINE),
        (DEADLINE, OWN_TTL, OWN_TTL),
        (DEADLINE, OWN_DEADLINE, OWN_DEADLINE),
    ],
)
def test_the_nine_rows_of_the_lifetime_table(source: Expiry, requested: Expiry, fork_gets: Expiry) -> None:
    assert fork_expiry(source, requested) == fork_gets


def test_a_ttl_of_nothing_is_a_ttl() -> None:
    assert fork_expiry(TTL, Expiry(ttl_s=0)) == Expiry(ttl_s=0)


READ: dict[str, Any] = {"forks": references("k")}
GONE_BY = NOW + 61


@pytest.mark.parametrize(
    ("source", "now", "error"),
    [
        (None, NOW, StreamNotFound),
        (stream(deleted=True, **READ), NOW, ForkFromDeleted),
        (stream(expiry=TTL), GONE_BY, StreamNotFound),
        (stream(expiry=TTL, **READ), GONE_BY, ForkFromDeleted),
        (stream(expiry=DEADLINE), GONE_BY, StreamNotFound),
    ],
)
def test_only_a_stream_that_lives_can_be_forked(
    source: StreamState | None, now: float, error: type[Exception]
) -> None:
    with pytest.raises(error):
        require_source(source, "s", now)
    with pytest.raises(error):
        decide_add_fork(source, AddFork("s", "i", "k", "fork"), now, UNLIMITED)


def test_a_closed_stream_can_be_forked() -> None:
    closed = stream(5, closed=True)
    assert require_source(closed, "s", NOW) is closed


def test_a_fork_leaves_its_source_at_the_tail_at_the_latest() -> None:
    for position, anchor in ((None, 5), (0, 0), (5, 5)):
        assert anchor_of(stream(5), position) == anchor
    with pytest.raises(BadRequest, match="Fork offset is beyond the source stream's tail"):
        anchor_of(stream(5), 6)
    check_fork_position(stream(5), 5)
    with pytest.raises(BadRequest, match="Fork sub-offset is beyond the source stream's tail"):
        check_fork_position(stream(5), 6)


@pytest.mark.parametrize("content_type", [None, "text/plain", "TEXT/PLAIN; x=y"])
def test_a_fork_may_name_the_content_type_of_its_source(content_type: str | None) -> None:
    check_content_type(stream(), content_type)


def test_a_fork_may_not_name_another() -> None:
    with pytest.raises(ContentTypeMismatch):
        check_content_type(stream(), "text/html")


def test_a_fork_request_carries_what_the_fork_gets_from_its_source() -> None:
    source = stream(5, expiry=TTL)
    fork = ForkSource("s", Offset(LIFE, 3), 1)
    asked = Create("f", None, NO_EXPIRY, False, b"", fork, Identity("uid of f", LIFE + 1))
    point = fork_point(asked, source, 3, 4, LIFE)
    assert point == ForkPoint("s", "i", 4, 3, 1, inherits_expiry=True, life=LIFE)
    resolved = fork_request(asked, source, point)
    assert resolved == replace(asked, content_type="text/plain", fork_point=point, inherited=Inherited(TTL))


@pytest.mark.parametrize("name", ["__ds", "__ds/leases/sweeper"])
def test_an_internal_stream_is_no_source(name: str) -> None:
    with pytest.raises(StreamNotFound):
        require_source(stream(5), name, NOW)


def test_a_fork_without_its_source_is_damaged_unless_it_has_gone_itself() -> None:
    fork = stream(5, fork=ForkPoint("t", "j", 3, 3, 0, inherits_expiry=False, life=LIFE - 1))
    assert isinstance(lost_source(fork, None), StreamNotFound)
    assert isinstance(lost_source(fork, stream(5, uid="other")), StreamNotFound)
    damaged = lost_source(fork, fork)
    assert isinstance(damaged, StreamDamaged)
    assert "'t'" in damaged.cause


# -- references -----------------------------------------------------------------------------------------------------


def take(state: StreamState, fork: str, uid: str = "i") -> Decision:
    return decide_add_fork(state, AddFork("s", uid, fork, f"name of {fork}"), NOW, UNLIMITED)


def release(state: StreamState | None, fork: str, uid: str = "i") -> Decision:
    return decide_remove_fork(state, RemoveFork("s", uid, fork), NOW, UNLIMITED)


def state_of(decision: Decision) -> StreamState:
    assert decision.state is not None
    return decision.state


def test_every_fork_is_remembered_by_its_uid() -> None:
    state = state_of(take(state_of(take(stream(5), "k")), "l"))
    assert state.forks == references("k", "l")
    assert state_of(release(state, "k")).forks == references("l")


def test_taking_a_reference_twice_is_taking_it_once() -> None:
    state = state_of(take(stream(), "k"))
    assert take(state, "k").state is state


def test_releasing_a_reference_twice_is_releasing_it_once() -> None:
    state = state_of(take(stream(), "k"))
    released = state_of(release(state, "k"))
    assert dict(released.forks) == {}
    assert release(released, "k").state is released


def test_a_reference_is_no_sign_of_life() -> None:
    state = stream(touched_at=NOW - 5)
    assert state_of(take(state, "k")).touched_at == NOW - 5


def test_a_newer_stream_of_that_name_is_not_the_source() -> None:
    newer = stream(uid="j", forks=references("k"))
    with pytest.raises(StreamNotFound):
        take(newer, "l")
    assert release(newer, "k").state is newer
    assert release(None, "k").state is None


def test_a_soft_deleted_stream_goes_with_its_last_fork() -> None:
    state = stream(deleted=True, forks=references("k", "l"))
    one_left = state_of(release(state, "k"))
    assert one_left.deleted
    decision = release(one_left, "l")
    assert decision.state is None
    assert isinstance(decision.outcome, Removed)
    assert not decision.outcome.retained


def test_a_soft_deleted_stream_that_nobody_reads_goes_at_any_release() -> None:
    assert release(stream(deleted=True), "unknown").state is None


# -- removing -------------------------------------------------------------------------------------------------------


def remove(state: StreamState | None, now: float = NOW, **more: Any) -> Decision:
    return decide_remove(state, Remove("s", **more), now, UNLIMITED)


def test_a_stream_that_nobody_reads_goes() -> None:
    decision = remove(stream(5))
    assert decision.state is None
    assert decision.outcome == Removed(stream_state(decision), retained=False)


def stream_state(decision: Decision) -> StreamState:
    assert isinstance(decision.outcome, Removed)
    return decision.outcome.state


def test_a_stream_that_forks_read_is_kept_out_of_sight() -> None:
    decision = remove(stream(5, **READ), NOW + 1)
    state = state_of(decision)
    assert state.deleted
    assert state.touched_at == NOW + 1
    assert isinstance(decision.outcome, Removed)
    assert decision.outcome.retained


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (None, StreamNotFound),
        (stream(deleted=True, **READ), StreamGone),
        (stream(expiry=TTL, touched_at=NOW - 60), StreamNotFound),
        (stream(expiry=TTL, touched_at=NOW - 60, **READ), StreamGone),
    ],
)
def test_what_is_not_there_cannot_be_deleted(state: StreamState | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        remove(state)


def test_expiry_takes_the_stream_it_was_meant_for_and_only_when_its_time_has_come() -> None:
    expired = stream(expiry=TTL, touched_at=NOW - 60)
    assert remove(expired, uid="i").state is None
    kept = stream(expiry=TTL, touched_at=NOW - 60, **READ)
    assert state_of(remove(kept, uid="i")).deleted
    for state in (
        stream(expiry=TTL, touched_at=NOW - 59),
        stream(expiry=TTL, touched_at=NOW - 60, uid="j"),
        stream(expiry=TTL, touched_at=NOW - 60, deleted=True, **READ),
        stream(),
        None,
    ):
        decision = remove(state, uid="i")
        assert decision.state is state
        assert isinstance(decision.outcome, Done)


# -- renewing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "expected"), [(NOW + 5, NOW + 5), (NOW - 5, NOW), (NOW, NOW)])
def test_a_touch_moves_the_window_on_and_never_back(at: float, expected: float) -> None:
    state = stream(expiry=TTL)
    decision = decide_touch(state, Touch("s", "i", at), NOW + 10, UNLIMITED)
    assert state_of(decision).touched_at == expected
    assert decision.state is not state
    assert decision.data == b""


def test_a_touch_of_a_stream_that_has_gone_changes_nothing() -> None:
    newer = stream(uid="j")
    assert decide_touch(newer, Touch("s", "i", NOW + 5), NOW, UNLIMITED).state is newer
    assert decide_touch(None, Touch("s", "i", NOW + 5), NOW, UNLIMITED).state is None
