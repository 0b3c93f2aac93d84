"""The rules of sections 6 and 7: a request meets a subscription and becomes events, or is refused.

The life of a wake::

    idle --pending--> WAKING (generation + 1)
    WAKING --claim, 2xx, callback--> HELD      WAKING --failure--> WAKING, later
    HELD --ack without done--> HELD, longer    HELD --done, release, end of the lease--> idle
    WAKING, HELD --the last failure allowed--> CONDEMNED --dead letter written--> idle

Nothing here changes a state: the events do, once they are durable. So a decision may be made again at any time, and a
late result of an earlier wake meets another wake and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.state import StreamState
from durable_streams.protocol.subscriptions import events
from durable_streams.protocol.subscriptions.config import BEGINNING, TAIL, config_hash
from durable_streams.protocol.subscriptions.errors import (
    AckRefused,
    AlreadyClaimed,
    Fenced,
    InvalidRequest,
    NoPendingWork,
    SubscriptionExists,
    SubscriptionLimit,
    SubscriptionNotFound,
    TokenInvalid,
)
from durable_streams.protocol.subscriptions.requests import (
    Ack,
    AddStreams,
    Attempt,
    Bury,
    Claim,
    Confirm,
    Delete,
    Expire,
    Fail,
    Grant,
    Release,
    RemoveStream,
    Request,
    Situation,
    Succeed,
    WakeUp,
)
from durable_streams.protocol.subscriptions.retrying import retry_delay_s
from durable_streams.protocol.subscriptions.state import Entry, Link, Phase, Subscription, Wake

ENTRIES_MAX: Final = 1000
"""Streams in one wake; what is pending beyond them makes the next one."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens; nothing is to be written when ``events`` is empty."""

    events: tuple[events.Event, ...] = ()
    next_wake: bool = False
    """Of an ack: whether work is left."""


NOTHING: Final = Decision()


def decide(
    found: Subscription | None, request: Request, situation: Situation, subscription_id: str
) -> Decision:
    """What ``request`` does to ``found`` (None: no such subscription).

    Pure; raises the ProtocolError that refuses the request.
    """
    if found is None:
        raise SubscriptionNotFound(subscription_id)
    return _RULES[type(request)](found, request, situation)


# -- the control plane (sections 6.2 to 6.4) -------------------------------------------------------------------------


def _confirm(found: Subscription, request: Confirm, situation: Situation) -> Decision:
    if config_hash(found.config) != config_hash(request.wanted.config):
        raise SubscriptionExists(found.id)
    paused = request.wanted.paused
    if paused is None or paused == found.paused:
        return NOTHING
    return Decision((events.Paused(paused),))


def _delete(found: Subscription, request: Delete, situation: Situation) -> Decision:
    return Decision((events.Deleted(found.generation, situation.now),))


def _add_streams(found: Subscription, request: AddStreams, situation: Situation) -> Decision:
    for path in request.paths:
        if path in found.config.channels:
            raise InvalidRequest(f"streams: {path!r} is written by the subscription itself")
    new = [path for path in request.paths if not found.is_explicit(path)]
    if len(found.links) + sum(path not in found.links for path in new) > request.links_max:
        raise SubscriptionLimit(f"A subscription may have {request.links_max} links")
    return Decision(tuple(events.linked(_explicit_link(found, path, situation) for path in new)))


def _explicit_link(found: Subscription, path: str, situation: Situation) -> Link:
    """A new link begins at the tail; one that the pattern has made already keeps its cursor (section 6.4)."""
    stream = situation.stream(path)
    if stream is None:
        return Link(path, None, 0, explicit=True)
    if path in found.links or path in situation.behind:
        return found.link_of(path, stream)._replace(explicit=True)
    start = BEGINNING if found.config.start == BEGINNING else TAIL
    return first_link(path, stream, start, situation)._replace(explicit=True)


def first_link(path: str, stream: StreamState, start: str, situation: Situation) -> Link:
    """The link to a stream that was there before: at its tail (section 6.2), or where ``start`` says.

    Raises InvalidRequest when ``start`` is no offset of the stream.
    """
    if start == TAIL:
        return Link(path, stream.config.uid, stream.tail, end_acked=stream.closed)
    if start == BEGINNING:
        return Link(path, stream.config.uid, 0)
    try:
        position = situation.position_of(stream, start)
    except ProtocolError as exc:
        raise InvalidRequest(f"start: {exc.detail}") from None
    if position > stream.tail:
        raise InvalidRequest("start: it lies beyond the tail of the stream")
    return Link(path, stream.config.uid, position)


def _remove_stream(found: Subscription, request: RemoveStream, situation: Situation) -> Decision:
    if not found.is_explicit(request.path):
        return NOTHING
    return Decision((events.Unlinked(request.path),))


# -- pull-wake and callbacks (sections 7.1 to 7.3) -------------------------------------------------------------------


def _claim(found: Subscription, request: Claim, situation: Situation) -> Decision:
    if not found.pulls:
        raise InvalidRequest("only a pull-wake subscription can be claimed")
    wake = found.wake
    happened: list[events.Event] = []
    if wake is not None and wake.phase is Phase.HELD:
        if situation.now < wake.lease_until:
            raise AlreadyClaimed(wake.holder or "", wake.generation)
        if _is_last(found):
            raise NoPendingWork("The wake has failed too often and goes to the dead letters")
        # The lease has ended and nobody has looked yet: never the same generation for two workers.
        happened.append(events.Ended(events.EXPIRED))
        wake = None
    if found.paused or (wake is not None and wake.phase is Phase.CONDEMNED):
        raise NoPendingWork(
            "The subscription is paused" if found.paused else "The wake goes to the dead letters"
        )
    if wake is None:
        happened.append(_woken(found, request.wake_id, situation))
    entries = entries_of(found, situation)
    return Decision((*happened, events.Claimed(request.worker, situation.now, entries)))


def _woken(found: Subscription, wake_id: str, situation: Situation) -> events.Woken:
    trigger = next(iter(situation.behind), None)
    if trigger is None:
        raise NoPendingWork("No linked stream has pending events")
    entries = () if found.pulls else entries_of(found, situation)
    return events.Woken(wake_id, found.generation + 1, situation.now, trigger, entries)


def entries_of(found: Subscription, situation: Situation) -> tuple[Entry, ...]:
    """The snapshot of what is pending now."""
    return tuple(
        Entry(
            path,
            stream.config.uid,
            stream.tail,
            situation.offset_at(stream, stream.tail),
            found.config.on_close and stream.closed,
        )
        for path, stream in islice(situation.behind.items(), ENTRIES_MAX)
    )


def _ack(found: Subscription, request: Ack, situation: Situation) -> Decision:
    if request.callback == found.pulls:
        right = "ack" if found.pulls else "callback"
        raise InvalidRequest(f"a {found.config.type} subscription is acked at its {right} endpoint")
    wake = _fence(found, request.grant, request.wake_id, request.generation, situation)
    moved = _acked_links(found, wake, request.acks, situation)
    happened: list[events.Event] = [events.Acked(tuple(moved.values()))] if moved else []
    if not request.done:
        return Decision((*happened, events.Extended(situation.now)))
    happened.append(events.Ended(events.DONE))
    return Decision(tuple(happened), next_wake=_is_left(found, moved, situation))


def _release(found: Subscription, request: Release, situation: Situation) -> Decision:
    if not found.pulls:
        raise InvalidRequest("only a pull-wake subscription can be released")
    _fence(found, request.grant, request.wake_id, request.generation, situation)
    return Decision((events.Ended(events.RELEASED),))


def _fence(found: Subscription, grant: Grant, wake_id: str, generation: int, situation: Situation) -> Wake:
    """The current wake, if the request speaks of it: the four checks of section 7.3, and the lease."""
    if grant.subscription_id != found.id:
        raise TokenInvalid("The token is of another subscription")
    wake = found.wake
    if wake is None or grant.generation != wake.generation:
        raise Fenced("The token is of an earlier generation")
    if generation != wake.generation:
        raise Fenced("The generation is not the current one")
    if wake_id != wake.id:
        raise Fenced("The wake_id is not the current one")
    if situation.now >= wake.lease_until:
        raise Fenced("The lease has ended")
    return wake


def _acked_links(
    found: Subscription, wake: Wake, acks: Iterable[tuple[str, str]], situation: Situation
) -> dict[str, Link]:
    """The links that move; raises AckRefused for any ack that is not valid, so that all or none are applied."""
    told = {entry.path: entry for entry in wake.entries}
    moved: dict[str, Link] = {}
    for path, offset in acks:
        stream = situation.stream(path)
        if stream is None or not found.is_linked(path):
            if path not in told and path not in found.links:
                raise AckRefused(f"{path!r} is not linked")
            # The worker was told of a stream that is not there, or not any more: nothing is left to move.
            continue
        link = moved.get(path) or found.link_of(path, stream)
        moved[path] = _acked_link(link, stream, offset, told.get(path), situation)
    return {path: link for path, link in moved.items() if link != found.links.get(path)}


def _acked_link(
    link: Link, stream: StreamState, offset: str, told: Entry | None, situation: Situation
) -> Link:
    try:
        position = situation.position_of(stream, offset)
    except ProtocolError as exc:
        raise AckRefused(f"{link.path!r}: {exc.detail}") from None
    if position < link.position:
        raise AckRefused(f"{link.path!r}: the offset lies before the cursor")
    if position > stream.tail:
        raise AckRefused(f"{link.path!r}: the offset lies beyond the tail")
    return _moved(link, position, told)


def _moved(link: Link, position: int, told: Entry | None) -> Link:
    ends = told is not None and told.closed and told.uid == link.uid and position >= told.position
    return link._replace(position=position, end_acked=link.end_acked or ends)


def _is_left(found: Subscription, moved: dict[str, Link], situation: Situation) -> bool:
    """Whether anything is pending when the links have moved."""
    for path, stream in situation.behind.items():
        link = moved.get(path) or found.link_of(path, stream)
        if stream.tail > link.position or found.ends_unacked(link, stream):
            return True
    return False


# -- the dispatcher (section 7) --------------------------------------------------------------------------------------


def _wake_up(found: Subscription, request: WakeUp, situation: Situation) -> Decision:
    if found.wake is not None or found.paused or not situation.behind:
        return NOTHING
    return Decision((_woken(found, request.wake_id, situation),))


def _expire(found: Subscription, request: Expire, situation: Situation) -> Decision:
    wake = found.wake
    if wake is None or wake.phase is not Phase.HELD or situation.now < wake.lease_until:
        return NOTHING
    if _is_last(found):
        return Decision((_condemned(found, wake, "the lease ended without an acknowledgement", situation),))
    return Decision((events.Ended(events.EXPIRED),))


def _attempt(found: Subscription, request: Attempt, situation: Situation) -> Decision:
    """The first attempt began with the wake; what follows it is noted, and has a lease of its own."""
    wake = _waking(found, request.wake_id)
    if wake is None or not wake.attempts or found.pulls:
        return NOTHING
    return Decision((events.Attempted(situation.now),))


def _succeed(found: Subscription, request: Succeed, situation: Situation) -> Decision:
    wake = found.wake
    if wake is None or wake.id != request.wake_id or wake.phase is Phase.CONDEMNED:
        return NOTHING
    if found.pulls:
        # Announced: there is nothing to note unless it had failed before.
        return Decision((events.Announced(),)) if wake.phase is Phase.WAKING and wake.attempts else NOTHING
    if not request.done:
        return Decision((events.Delivered(request.began_at),)) if wake.phase is Phase.WAKING else NOTHING
    acked = tuple(_acked_entries(found, wake, situation))
    happened: tuple[events.Event, ...] = (events.Acked(acked),) if acked else ()
    return Decision((*happened, events.Ended(events.DONE)))


def _fail(found: Subscription, request: Fail, situation: Situation) -> Decision:
    wake = found.wake
    # A worker that has called back holds the wake: whatever became of the delivery, it has arrived.
    if wake is None or wake.id != request.wake_id or wake.phase is Phase.HELD:
        return NOTHING
    if wake.phase is Phase.WAKING and _is_last(found):
        return Decision((_condemned(found, wake, request.error, situation),))
    due_at = situation.now + retry_delay_s(wake.attempts + 1, request.chance)
    return Decision((events.Failed(request.error, due_at),))


def _bury(found: Subscription, request: Bury, situation: Situation) -> Decision:
    wake = found.wake
    if wake is None or wake.id != request.wake_id or wake.phase is not Phase.CONDEMNED:
        return NOTHING
    acked = tuple(_acked_entries(found, wake, situation))
    happened: tuple[events.Event, ...] = (events.Acked(acked),) if acked else ()
    return Decision((*happened, events.Ended(events.BURIED)))


def _waking(found: Subscription, wake_id: str) -> Wake | None:
    wake = found.wake
    return wake if wake is not None and wake.id == wake_id and wake.phase is Phase.WAKING else None


def _is_last(found: Subscription) -> bool:
    """Whether one more failure is the last that the configuration allows."""
    attempts = found.config.max_attempts
    return attempts is not None and found.failures + 1 >= attempts


def _condemned(found: Subscription, wake: Wake, error: str, situation: Situation) -> events.Condemned:
    return events.Condemned(error, wake.entries or entries_of(found, situation))


def _acked_entries(found: Subscription, wake: Wake, situation: Situation) -> Iterable[Link]:
    """The links that an ack of the whole snapshot moves; a stream that was created again since is another stream."""
    for entry in wake.entries:
        stream = situation.stream(entry.path)
        if stream is None or stream.config.uid != entry.uid or not found.is_linked(entry.path):
            continue
        link = found.link_of(entry.path, stream)
        moved = _moved(link, max(link.position, entry.position), entry)
        if moved != found.links.get(entry.path):
            yield moved


_RULES: Final[dict[type, Callable[[Subscription, Any, Situation], Decision]]] = {
    Confirm: _confirm,
    Delete: _delete,
    AddStreams: _add_streams,
    RemoveStream: _remove_stream,
    Claim: _claim,
    Ack: _ack,
    Release: _release,
    WakeUp: _wake_up,
    Expire: _expire,
    Attempt: _attempt,
    Succeed: _succeed,
    Fail: _fail,
    Bury: _bury,
}
