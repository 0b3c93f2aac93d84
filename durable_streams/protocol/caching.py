"""What caches are told, entity tags, Cache-Control and cursors (section 10), and what writers say of tags.

Of If-Match and If-None-Match in a write (RFC 9110, section 13): the current tags of a stream are those of reads that
reach its end now, wherever they begin and however they are coded.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final, NamedTuple

from durable_streams.protocol.errors import PreconditionFailed
from durable_streams.protocol.state import StreamState

CURSOR_EPOCH_S: Final = 1_728_432_000
"""2024-10-09T00:00:00Z, in seconds since 1970."""
CURSOR_INTERVAL_S: Final = 20
CURSOR_JITTER_S_MAX: Final = 3600
MAX_AGE_S: Final = 60
STALE_S: Final = 300

NO_STORE: Final = "no-store"


def entity_tag(state: StreamState, start: int, stop: int, coding: str | None = None) -> str:
    """The tag of a read: it differs by uid, start, end, closure and content coding.

    So a closure is never hidden by a 304, and no cache mixes up compressed and plain bytes.
    """
    closed = ":c" if state.closed and stop == state.tail else ""
    coded = f":{coding}" if coding else ""
    return f'"{state.config.uid}:{start}:{stop}{closed}{coded}"'


def tag_matches(if_none_match: str, tag: str) -> bool:
    """Whether an If-None-Match value (one tag, a list, weak tags or ``*``) names ``tag`` (RFC 9110, 13.1.2)."""
    if if_none_match == tag:
        return True
    candidates = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return tag in candidates or candidates == ["*"]


class Precondition(NamedTuple):
    """If-Match and If-None-Match as they were sent."""

    if_match: str | None
    if_none_match: str | None


def check_precondition(state: StreamState | None, precondition: Precondition | None) -> None:
    """Raise PreconditionFailed unless ``state`` (None: there is no such stream) is what the client expects.

    To be asked last: a request that is refused anyway is refused for that reason.
    """
    if precondition is None:
        return
    if_match, if_none_match = precondition
    if if_match is not None and not _names(if_match, state, weakly=False):
        raise PreconditionFailed("If-Match", _tail(state))
    if if_none_match is not None and _names(if_none_match, state, weakly=True):
        raise PreconditionFailed("If-None-Match", _tail(state))


def _names(tags: str, state: StreamState | None, *, weakly: bool) -> bool:
    if state is None:
        return False
    candidates = [tag.strip() for tag in tags.split(",")]
    if candidates == ["*"]:
        return True
    if weakly:
        candidates = [tag.removeprefix("W/") for tag in candidates]
    return any(_is_current(tag, state) for tag in candidates)


def _is_current(tag: str, state: StreamState) -> bool:
    """See ``entity_tag`` for the fields."""
    if not (len(tag) > 1 and tag.startswith('"') and tag.endswith('"')):
        return False
    uid, _, fields = tag[1:-1].partition(":")
    _, stop, *marks = [*fields.split(":"), ""]
    return uid == state.config.uid and stop == str(state.tail) and ("c" in marks) == state.closed


def _tail(state: StreamState | None) -> str | None:
    return None if state is None else state.next_offset


def cache_control(state: StreamState, start: int, stop: int, now: float, visibility: str) -> str:
    """For a read from ``start`` to ``stop``; never longer than the stream itself will live.

    A response without data at the end of an open stream is not kept: a reader finds data, and closure, by repeating
    that very request (section 10.1).
    """
    if visibility == NO_STORE or (start == stop and not state.closed):
        return NO_STORE
    left = _seconds_left(state, now)
    if left is not None and left < MAX_AGE_S + STALE_S:
        return f"{visibility}, max-age={max(0, min(MAX_AGE_S, int(left)))}"
    return f"{visibility}, max-age={MAX_AGE_S}, stale-while-revalidate={STALE_S}"


def _seconds_left(state: StreamState, now: float) -> float | None:
    expiry = state.config.expiry
    if expiry.ttl_s is not None:
        return expiry.ttl_s
    return None if expiry.expires_at is None else expiry.expires_at - now


def next_cursor(now: float, client_cursor: str | None, jitter_s: int) -> str:
    """The number of the current interval; or, past a client that is there already, its cursor plus the jitter.

    ``jitter_s`` is a random number from 1 to CURSOR_JITTER_S_MAX. A cursor that is no decimal number counts as none.
    """
    current = int(now - CURSOR_EPOCH_S) // CURSOR_INTERVAL_S
    if client_cursor is None or not (client_cursor.isascii() and client_cursor.isdigit()):
        return str(current)
    # Decimal, since int refuses text of several thousand digits.
    exact = Context(prec=len(client_cursor) + 8)
    client = Decimal(client_cursor)
    if client < current:
        return str(current)
    return f"{exact.add(client, -(-jitter_s // CURSOR_INTERVAL_S)):f}"


def later_cursor(now: float, last: str) -> str:
    """The cursor that follows ``last`` on one connection: the current interval, never going backwards."""
    current = str(int(now - CURSOR_EPOCH_S) // CURSOR_INTERVAL_S)
    return last if (len(last), last) >= (len(current), current) else current
