"""Creating a stream or a fork, and being asked again for one that is there (sections 4.2 and 5.1)."""

from __future__ import annotations

from durable_streams.protocol.appending import check_size, stored_messages
from durable_streams.protocol.caching import check_precondition
from durable_streams.protocol.content import DEFAULT_CONTENT_TYPE, is_json, media_type
from durable_streams.protocol.errors import (
    BadRequest,
    DocumentChanged,
    PathBlocked,
    StaleDecision,
    StreamExists,
)
from durable_streams.protocol.expiry import has_expired
from durable_streams.protocol.messages.placing import Unfilled
from durable_streams.protocol.outcomes import Created, Decision, Done
from durable_streams.protocol.requests import AddFork, Create, ForkSource, Replace, StreamLimits
from durable_streams.protocol.state import NO_EXPIRY, Expiry, ForkPoint, StreamConfig, StreamState, evolve


def decide_create(found: StreamState | None, request: Create, now: float, limits: StreamLimits) -> Decision:
    """A new stream, or the one that is there when it is what was asked for.

    Raises StreamExists, PathBlocked or BadRequest. Never appends the body to a stream that exists. Raises StaleDecision
    for an expired stream, which has to be removed first, and for a fork whose source is not known yet, because the fork
    itself was there until now.
    """
    if found is not None:
        if found.deleted:
            raise PathBlocked(request.name)
        if has_expired(found, now):
            raise StaleDecision("the stream has expired meanwhile")
        check_same(found, request, limits)
        check_precondition(found, request.precondition)
        return Decision(found, b"", Created(found, existed=True))
    if request.fork is not None and request.fork_point is None:
        raise StaleDecision("the fork has gone meanwhile")
    config = _config(request, limits)
    data = stored_messages(request, config) if request.body and config.is_json else request.body
    check_size(len(data), limits)
    check_precondition(None, request.precondition)
    state = StreamState(config, config.forked_at + len(data), now, closed=request.closed)
    if isinstance(data, Unfilled):
        data = data.fill(state.next_offset)
    point = request.fork_point
    reference = AddFork(point.source, point.source_uid, config.uid, request.name) if point else None
    return Decision(state, data, Created(state, existed=False), reference)


def _config(request: Create, limits: StreamLimits) -> StreamConfig:
    content_type = request.content_type or DEFAULT_CONTENT_TYPE
    if request.message_offsets and not is_json(content_type):
        raise BadRequest("Stream-Message-Offsets is for streams of application/json")
    return StreamConfig(
        request.name,
        request.identity.uid,
        content_type,
        request.inherited.expiry or _expiry(request, limits),
        request.fork_point,
        request.identity.life,
        request.inherited.old_messages,
        request.gets_message_offsets and is_json(content_type),
    )


def decide_replace(found: StreamState | None, request: Replace, now: float, limits: StreamLimits) -> Decision:
    """A document with another body, or none; raises DocumentChanged unless it is the life that is to be replaced."""
    if (None if found is None else found.config.uid) != request.expected:
        raise DocumentChanged(request.name)
    if found is not None and request.size is not None and found.tail != request.size:
        raise DocumentChanged(request.name)
    if request.body is None:
        return Decision(None, b"", Done(None))
    config = StreamConfig(request.name, request.uid, DEFAULT_CONTENT_TYPE, NO_EXPIRY, None, int(now * 1e6))
    first = StreamState(config, len(request.body), now)
    after = evolve(found, config=config, tail=first.tail, touched_at=now) if found else first
    return Decision(after, request.body, Done(after))


def _expiry(request: Create, limits: StreamLimits) -> Expiry:
    """What the client asks for, or else what the server gives."""
    return Expiry(ttl_s=limits.ttl_s) if _leaves_expiry(request, limits) else request.expiry


def _leaves_expiry(request: Create, limits: StreamLimits) -> bool:
    """Whether the client leaves it to the server how long the stream lives, and the server has a rule for it."""
    return limits.ttl_s > 0 and request.expiry.ttl_s is None and request.expiry.expires_at is None


def check_same(state: StreamState, request: Create, limits: StreamLimits) -> None:
    """Raise StreamExists, naming the difference, unless ``request`` describes the stream that is there."""
    config = state.config
    fork = config.fork
    if (difference := _fork_difference(fork, request.fork)) is not None:
        raise StreamExists(difference)
    wanted_type = request.content_type or (None if fork else DEFAULT_CONTENT_TYPE)
    if wanted_type is not None and media_type(wanted_type) != config.media_type:
        raise StreamExists(f"its content type is {config.content_type}")
    # A default of before, or of now: the client has asked for neither.
    if not _leaves_expiry(request, limits) and not _same_expiry(state, request):
        raise StreamExists("its TTL or expiry differs")
    if request.message_offsets not in (None, config.message_offsets):
        raise StreamExists(f"its messages have {'' if config.message_offsets else 'no '}offsets")
    if state.closed != request.closed:
        raise StreamExists("it is closed" if state.closed else "it is open")


def _same_expiry(state: StreamState, request: Create) -> bool:
    have, want = state.config.expiry, request.expiry
    fork = state.config.fork
    if fork is not None and fork.inherits_expiry:
        return want.ttl_s is None and want.expires_at is None
    return (have.ttl_s, have.expires_at) == (want.ttl_s, want.expires_at)


def _fork_difference(have: ForkPoint | None, want: ForkSource | None) -> str | None:
    if have is None:
        return None if want is None else "it is not a fork"
    if want is None:
        return "it is a fork"
    if want.source != have.source:
        return f"it is a fork of {have.source}"
    offset = want.offset
    if offset is not None and (offset.position != have.anchor or offset.life > have.life):
        return "its fork offset differs"
    if want.sub_offset != have.sub_offset:
        return "its fork sub-offset differs"
    return None
