"""When a stream's life ends, and what its URL answers then (sections 4.2 and 5.1)."""

from __future__ import annotations

import pytest

from durable_streams.protocol.errors import StreamGone, StreamNotFound
from durable_streams.protocol.expiry import has_expired, require_live
from durable_streams.protocol.state import RECHECK_DELETED_S, Expiry, StreamState
from tests.protocol.states import NOW, references, stream

TTL, DEADLINE = Expiry(ttl_s=60), Expiry(expires_at=NOW + 60)


@pytest.mark.parametrize(
    ("state", "expires_at"),
    [
        (stream(), None),
        (stream(expiry=TTL), NOW + 60),
        (stream(expiry=TTL, touched_at=NOW + 30), NOW + 90),
        (stream(expiry=Expiry(ttl_s=0)), NOW),
        (stream(expiry=DEADLINE), NOW + 60),
        (stream(expiry=DEADLINE, touched_at=NOW + 30), NOW + 60),
        (stream(expiry=Expiry(expires_at=NOW - 1)), NOW - 1),
    ],
)
def test_a_window_slides_and_a_deadline_stands(state: StreamState, expires_at: float | None) -> None:
    assert state.due_at == expires_at
    if expires_at is None:
        assert not has_expired(state, NOW + 1e9)
        return
    assert not has_expired(state, expires_at - 0.001)
    assert has_expired(state, expires_at)


def test_a_live_stream_may_be_used() -> None:
    state = stream(expiry=TTL)
    assert require_live(state, "s", NOW + 59) is state


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (None, StreamNotFound),
        (stream(expiry=TTL), StreamNotFound),
        (stream(expiry=TTL, forks=references("k")), StreamGone),
        (stream(deleted=True), StreamGone),
        (stream(deleted=True, forks=references("k")), StreamGone),
    ],
)
def test_a_stream_that_has_gone_is_not_found_or_gone_as_forks_keep_it(
    state: StreamState | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        require_live(state, "s", NOW + 60)


def test_a_soft_deleted_stream_is_looked_at_again_whatever_its_expiry() -> None:
    assert stream(deleted=True, expiry=TTL).due_at == NOW + RECHECK_DELETED_S
