"""Forks: lifetimes, forks, and what becomes of a stream that forks still read (section 4.2)."""

from __future__ import annotations

from dataclasses import replace

from durable_streams.protocol.errors import BadRequest, ForkFromDeleted, StreamNotFound
from durable_streams.protocol.expiry import has_expired, require_live
from durable_streams.protocol.outcomes import Decision, Done, Removed
from durable_streams.protocol.requests import AddFork, Remove, RemoveFork, Touch
from durable_streams.protocol.state import NO_EXPIRY, NO_FORKS, Expiry, StreamState


def fork_expiry(source: Expiry, requested: Expiry) -> Expiry:
    """The lifetime of a fork: what it asks for, or else what its source has.

    | source     | asked for  | fork gets              |
    | ---------- | ---------- | ---------------------- |
    | none       | none       | none                   |
    | none       | TTL        | the TTL asked for      |
    | none       | Expires-At | the instant asked for  |
    | TTL        | none       | the source's TTL value |
    | TTL        | TTL        | the TTL asked for      |
    | TTL        | Expires-At | the instant asked for  |
    | Expires-At | none       | the source's instant   |
    | Expires-At | TTL        | the TTL asked for      |
    | Expires-At | Expires-At | the instant asked for  |
    """
    return source if requested == NO_EXPIRY else requested


def require_source(state: StreamState | None, name: str, now: float) -> StreamState:
    """The stream to fork from; raises StreamNotFound, or ForkFromDeleted when only forks keep it."""
    if state is None:
        raise StreamNotFound(name)
    if state.deleted:
        raise ForkFromDeleted(name)
    if has_expired(state, now):
        raise ForkFromDeleted(name) if state.forks else StreamNotFound(name)
    return state


def check_anchor(source: StreamState, position: int) -> None:
    """Raise BadRequest when ``position`` lies beyond the source's tail."""
    if position > source.tail:
        raise BadRequest("Fork offset is beyond the source stream's tail")


def decide_take_reference(
    found: StreamState | None, request: AddFork, now: float, stream_bytes_max: int
) -> Decision:
    """Note that a fork reads this stream; raises as ``require_source`` does, also for a newer uid."""
    state = require_source(found, request.name, now)
    if state.config.uid != request.uid:
        raise StreamNotFound(request.name)
    if request.fork_uid in state.forks:
        return Decision(state, b"", Done(state))
    forks = {**state.forks, request.fork_uid: request.fork_name}
    after = replace(state, forks=forks)
    return Decision(after, b"", Done(after))


def decide_release_reference(
    found: StreamState | None, request: RemoveFork, now: float, stream_bytes_max: int
) -> Decision:
    """Forget a fork; a soft-deleted stream goes with its last one. Releasing twice is releasing once."""
    if found is None or found.config.uid != request.uid:
        return Decision(found, b"", Done(found))
    forks = {key: name for key, name in found.forks.items() if key != request.fork_uid}
    if found.deleted and not forks:
        return Decision(None, b"", Removed(found, retained=False))
    if len(forks) == len(found.forks):
        return Decision(found, b"", Done(found))
    after = replace(found, forks=forks or NO_FORKS)
    return Decision(after, b"", Done(after))


def decide_remove(found: StreamState | None, request: Remove, now: float, stream_bytes_max: int) -> Decision:
    """DELETE, or expiry of one uid: the stream goes, or is kept out of sight for its forks (section 5.4)."""
    if request.uid is None:
        state = require_live(found, request.name, now)
    elif found is None or found.deleted or found.config.uid != request.uid or not has_expired(found, now):
        return Decision(found, b"", Done(found))
    else:
        state = found
    if not state.forks:
        return Decision(None, b"", Removed(state, retained=False))
    return Decision(replace(state, deleted=True, touched_at=now), b"", Removed(state, retained=True))


def decide_renew(found: StreamState | None, request: Touch, now: float, stream_bytes_max: int) -> Decision:
    """Record a touch by reads, or the last look at a soft-deleted stream.

    What ``found`` knows of later touches is recorded with it; one of another uid changes nothing.
    """
    if found is None or found.config.uid != request.uid:
        return Decision(found, b"", Done(found))
    # Always a new object: the touch may be in ``found`` already, which need not be what is recorded.
    after = replace(found, touched_at=max(found.touched_at, request.at))
    return Decision(after, b"", Done(after))
