"""When a stream's life ends: sliding windows and absolute deadlines (section 5.1)."""

from __future__ import annotations

from typing import Final

from durable_streams.protocol.errors import StreamGone, StreamNotFound
from durable_streams.protocol.state import NO_EXPIRY, StreamState

RECORDED_PARTS: Final = 8
"""A touch by a read is recorded when it is this part of the window ahead of what is recorded."""


def unrecorded_s(state: StreamState) -> float:
    """How far the newest touch of a stream may be ahead of the recorded one (seconds)."""
    return (state.config.expiry.ttl_s or 0) / RECORDED_PARTS


def swept_at(state: StreamState) -> float | None:
    """``due_at`` of a stream whose newest touches are known to other processes alone (seconds since 1970)."""
    due_at = state.due_at
    return due_at if due_at is None or state.deleted else due_at + unrecorded_s(state)


def has_expired(state: StreamState, now: float) -> bool:
    """Whether the deadline has passed at ``now`` (seconds since 1970)."""
    expiry = state.config.expiry
    if expiry.ttl_s is not None:
        return now >= state.touched_at + expiry.ttl_s
    return expiry.expires_at is not None and now >= expiry.expires_at


def require_live(state: StreamState | None, name: str, now: float) -> StreamState:
    """``state`` if a client may use it; raises StreamNotFound, or StreamGone when forks alone keep it."""
    if state is None:
        raise StreamNotFound(name)
    if state.deleted:
        raise StreamGone(name)
    if state.config.expiry is not NO_EXPIRY and has_expired(state, now):
        raise StreamGone(name) if state.forks else StreamNotFound(name)
    return state
