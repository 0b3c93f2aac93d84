"""Forks: lifetimes, references, and what becomes of a stream that forks still read (section 4.2)."""

from __future__ import annotations

from dataclasses import replace

from durable_streams.protocol.errors import BadRequest, ForkFromDeleted, StreamNotFound
from durable_streams.protocol.expiry import has_expired, require_live
from durable_streams.protocol.outcomes import Decision, Done, Removed
from durable_streams.protocol.requests import ReleaseReference, Remove, Renew, TakeReference
from durable_streams.protocol.state import NO_EXPIRY, NO_REFERENCES, Expiry, StreamState


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
        raise ForkFromDeleted(name) if state.references else StreamNotFound(name)
    return state


def check_anchor(source: StreamState, position: int) -> None:
    """Raise BadRequest when ``position`` lies beyond the source's tail."""
    if position > source.tail:
        raise BadRequest("Fork offset is beyond the source stream's tail")


def decide_take_reference(
    found: StreamState | None, request: TakeReference, now: float, stream_bytes_max: int
) -> Decision:
    """Note that a fork reads this stream; raises as ``require_source`` does, also for a newer incarnation."""
    state = require_source(found, request.name, now)
    if state.config.incarnation != request.incarnation:
        raise StreamNotFound(request.name)
    if request.fork_incarnation in state.references:
        return Decision(state, b"", Done(state))
    references = {**state.references, request.fork_incarnation: request.fork_name}
    after = replace(state, references=references)
    return Decision(after, b"", Done(after))


def decide_release_reference(
    found: StreamState | None, request: ReleaseReference, now: float, stream_bytes_max: int
) -> Decision:
    """Forget a fork; a soft-deleted stream goes with its last one. Releasing twice is releasing once."""
    if found is None or found.config.incarnation != request.incarnation:
        return Decision(found, b"", Done(found))
    references = {key: name for key, name in found.references.items() if key != request.fork_incarnation}
    if found.deleted and not references:
        return Decision(None, b"", Removed(found, retained=False))
    if len(references) == len(found.references):
        return Decision(found, b"", Done(found))
    after = replace(found, references=references or NO_REFERENCES)
    return Decision(after, b"", Done(after))


def decide_remove(found: StreamState | None, request: Remove, now: float, stream_bytes_max: int) -> Decision:
    """DELETE, or expiry of one incarnation: the stream goes, or is kept out of sight for its forks (section 5.4)."""
    if request.incarnation is None:
        state = require_live(found, request.name, now)
    elif (
        found is None
        or found.deleted
        or found.config.incarnation != request.incarnation
        or not has_expired(found, now)
    ):
        return Decision(found, b"", Done(found))
    else:
        state = found
    if not state.references:
        return Decision(None, b"", Removed(state, retained=False))
    return Decision(replace(state, deleted=True, renewed_at=now), b"", Removed(state, retained=True))


def decide_renew(found: StreamState | None, request: Renew, now: float, stream_bytes_max: int) -> Decision:
    """Record a renewal by reads, or the last look at a soft-deleted stream.

    What ``found`` knows of later renewals is recorded with it; one of another incarnation changes nothing.
    """
    if found is None or found.config.incarnation != request.incarnation:
        return Decision(found, b"", Done(found))
    # Always a new object: the renewal may be in ``found`` already, which need not be what is recorded.
    after = replace(found, renewed_at=max(found.renewed_at, request.at))
    return Decision(after, b"", Done(after))
