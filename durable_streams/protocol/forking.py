"""Forks: where they leave their source, how long they live, and what becomes of a source they read (section 4.2)."""

from __future__ import annotations

from dataclasses import replace

from durable_streams.persistent_map import with_entry, without_entry
from durable_streams.protocol.caching import check_precondition
from durable_streams.protocol.content import media_type
from durable_streams.protocol.errors import (
    BadRequest,
    ContentTypeMismatch,
    ForkFromDeleted,
    LimitReached,
    ProtocolError,
    StreamDamaged,
    StreamNotFound,
)
from durable_streams.protocol.expiry import has_expired, require_live
from durable_streams.protocol.names import is_reserved
from durable_streams.protocol.outcomes import Decision, Done, Removed
from durable_streams.protocol.requests import (
    AddFork,
    Create,
    Inherited,
    Remove,
    RemoveFork,
    StreamLimits,
    Touch,
)
from durable_streams.protocol.state import (
    NO_EXPIRY,
    NO_FORKS,
    Expiry,
    ForkPoint,
    ForkReference,
    StreamState,
    evolve,
)


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
    """The stream to fork from.

    Raises StreamNotFound, also for a name that no client may use, and ForkFromDeleted when only forks keep the stream.
    """
    if state is None or is_reserved(name):
        raise StreamNotFound(name)
    if state.deleted:
        raise ForkFromDeleted(name)
    if has_expired(state, now):
        raise ForkFromDeleted(name) if state.forks else StreamNotFound(name)
    return state


def check_content_type(source: StreamState, requested: str | None) -> None:
    """Raise ContentTypeMismatch when a fork asks for another content type than its source has."""
    if requested is not None and media_type(requested) != source.config.media_type:
        raise ContentTypeMismatch(source.config.content_type, requested)


def anchor_of(source: StreamState, named: int | None) -> int:
    """The position that Stream-Fork-Offset names, or else the source's tail; raises BadRequest beyond the tail."""
    anchor = source.tail if named is None else named
    if anchor > source.tail:
        raise BadRequest("Fork offset is beyond the source stream's tail")
    return anchor


def check_fork_position(source: StreamState, position: int) -> None:
    """Raise BadRequest when the sub-offset leads beyond the source's tail.

    ``position`` is where it leads in bytes; in JSON mode one beyond the tail stands for messages that are missing.
    """
    if position > source.tail:
        raise BadRequest("Fork sub-offset is beyond the source stream's tail")


def fork_point(request: Create, source: StreamState, anchor: int, position: int, life: int) -> ForkPoint:
    """Where a fork leaves its ``source``: at ``position``, whose offset carries ``life``."""
    fork, expiry = request.fork, request.expiry
    return ForkPoint(
        source.name,
        source.config.uid,
        position,
        anchor,
        fork.sub_offset if fork else 0,
        inherits_expiry=expiry.ttl_s is None and expiry.expires_at is None,
        life=life,
    )


def fork_request(request: Create, source: StreamState, point: ForkPoint) -> Create:
    """``request`` with what a fork gets from its ``source``, which it leaves at ``point``."""
    return replace(
        request,
        content_type=request.content_type or source.config.content_type,
        fork_point=point,
        inherited=Inherited(
            fork_expiry(source.config.expiry, request.expiry),
            source.config.old_messages,
            source.config.message_offsets,
        ),
    )


def lost_source(fork: StreamState, found: StreamState | None) -> ProtocolError:
    """Why the source of ``fork`` cannot be read: it has gone (its name is now ``found``), or bytes are lost."""
    if found is None or found.config.uid != fork.config.uid:
        return StreamNotFound(fork.name)
    point = fork.config.fork
    return StreamDamaged(f"fork {fork.name!r} has lost its source {point.source if point else None!r}")


def is_orphan(
    uid: str, reference: ForkReference, found: StreamState | None, now: float, settled_at: float
) -> bool:
    """Whether a reference has no fork: ``found`` is the stream that has the name of the fork ``uid`` now.

    Whatever was begun before ``settled_at`` has ended, whichever way; times are seconds since 1970.
    """
    if found is not None and found.config.uid == uid:
        return False
    return now >= reference.certain_at or reference.taken_at < settled_at


def release_of(state: StreamState) -> RemoveFork | None:
    """What is to be done at the source of a stream that is gone, if it was a fork."""
    fork = state.config.fork
    return RemoveFork(fork.source, fork.source_uid, state.config.uid) if fork else None


def decide_add_fork(
    found: StreamState | None, request: AddFork, now: float, limits: StreamLimits
) -> Decision:
    """Record that a fork reads this stream; raises as ``require_source`` does, also for a newer uid."""
    state = require_source(found, request.name, now)
    if state.config.uid != request.uid:
        raise StreamNotFound(request.name)
    if request.fork_uid in state.forks:
        return Decision(state, b"", Done(state))
    if limits.forks_max and len(state.forks) >= limits.forks_max:
        raise LimitReached("limits.max_forks_per_stream", limits.forks_max)
    reference = ForkReference(request.fork_name, now)
    after = evolve(state, forks=with_entry(state.forks, request.fork_uid, reference))
    return Decision(after, b"", Done(after), entries=(request.fork_uid,))


def decide_remove_fork(
    found: StreamState | None, request: RemoveFork, now: float, limits: StreamLimits
) -> Decision:
    """Forget a fork; a soft-deleted stream goes with its last one, up the chain. Releasing twice is releasing once."""
    if found is None or found.config.uid != request.uid:
        return Decision(found, b"", Done(found))
    forks = without_entry(found.forks, request.fork_uid)
    if found.deleted and not forks:
        return Decision(None, b"", Removed(found, retained=False), release_of(found))
    if forks is found.forks:
        return Decision(found, b"", Done(found))
    after = evolve(found, forks=forks or NO_FORKS)
    return Decision(after, b"", Done(after), entries=(request.fork_uid,))


def decide_remove(found: StreamState | None, request: Remove, now: float, limits: StreamLimits) -> Decision:
    """DELETE, or expiry of one uid: the stream goes, or is kept out of sight for its forks (section 5.4)."""
    if request.uid is None:
        state = require_live(found, request.name, now)
        check_precondition(state, request.precondition)
    elif found is None or found.deleted or found.config.uid != request.uid or not has_expired(found, now):
        return Decision(found, b"", Done(found))
    else:
        state = found
    if not state.forks:
        return Decision(None, b"", Removed(state, retained=False), release_of(state))
    return Decision(evolve(state, deleted=True, touched_at=now), b"", Removed(state, retained=True))


def decide_touch(found: StreamState | None, request: Touch, now: float, limits: StreamLimits) -> Decision:
    """Record a touch by reads, or the last check of a soft-deleted stream.

    A later touch that ``found`` has is recorded with it. A touch of another uid changes nothing.
    """
    if found is None or found.config.uid != request.uid:
        return Decision(found, b"", Done(found))
    # Always a new object: the touch may be in ``found`` already, which need not be what is recorded.
    after = evolve(found, touched_at=max(found.touched_at, request.at))
    return Decision(after, b"", Done(after))
