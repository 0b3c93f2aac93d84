"""What happens to a subscription, as values: a decision makes them, a log keeps them, and ``apply`` is their meaning.

The state is never stored by itself, only these: what is not in an event is forgotten at a restart. A change of one
cursor among many is therefore one small record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from durable_streams.protocol.subscriptions.config import SubscriptionConfig
from durable_streams.protocol.subscriptions.state import Entry, Link, Phase, Subscription, Wake

DONE: Final = "done"
RELEASED: Final = "released"
EXPIRED: Final = "expired"
BURIED: Final = "buried"

LINKS_PER_EVENT: Final = 500
"""About a millisecond to write, or to read."""


@dataclass(frozen=True, slots=True)
class Created:
    """The first event. ``generation`` continues that of a deleted subscription of the same id."""

    id: str
    config: SubscriptionConfig
    at: float
    root: str
    generation: int = 0
    paused: bool = False
    failures: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Linked:
    """Links with their cursors, as they are from now on."""

    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Unlinked:
    """An explicit link was removed; one that the pattern matches too stays as the pattern's."""

    path: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """Links of the pattern whose streams have gone, with cursors that say nothing any more."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Paused:
    paused: bool


@dataclass(frozen=True, slots=True)
class Woken:
    """A wake begins; a webhook's first lease begins with it."""

    wake_id: str
    generation: int
    at: float
    trigger: str
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempted:
    """A further attempt to deliver begins; its lease begins with it."""

    at: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A delivery failed; ``next_attempt_at`` is when it is tried again."""

    error: str
    next_attempt_at: float


@dataclass(frozen=True, slots=True)
class Announced:
    """The wake event stands in the wake stream, after attempts that had failed."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has taken a webhook whose attempt began ``at``, and will call back."""

    at: float


@dataclass(frozen=True, slots=True)
class Claimed:
    worker: str
    at: float
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Extended:
    """A heartbeat: the lease begins anew."""

    at: float


@dataclass(frozen=True, slots=True)
class Acked:
    """Cursors move; a link that stood for a pattern's match alone is recorded by it."""

    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Condemned:
    """The wake has failed for the last time; ``entries`` is what goes to the dead letters."""

    error: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The wake is over, and the subscription idle."""

    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """Of a snapshot alone: the wake as it was."""

    wake: Wake


@dataclass(frozen=True, slots=True)
class Deleted:
    """A tombstone: nothing is left but the generation, for a subscription that is created with the same id."""

    generation: int
    at: float


Event = (
    Created
    | Linked
    | Unlinked
    | Dropped
    | Paused
    | Woken
    | Attempted
    | Failed
    | Announced
    | Delivered
    | Claimed
    | Extended
    | Acked
    | Condemned
    | Ended
    | Resumed
    | Deleted
)


def apply(found: Subscription | None, event: Event) -> Subscription | None:
    """``found`` after the event: the same object, changed; None after Deleted. Raises ValueError for no sequence
    of events that ``decide`` can have made.
    """
    if isinstance(event, Created):
        return _created(event)
    if isinstance(event, Deleted):
        # Alone, it is all that is left of a subscription.
        return None
    if found is None:
        raise ValueError(f"{type(event).__name__} without a subscription")
    if isinstance(event, Linked | Unlinked | Dropped | Paused | Acked):
        _apply_to_links(found, event)
    elif isinstance(event, Woken):
        found.wake = _woken(found, event)
    elif isinstance(event, Resumed):
        found.wake = replace(event.wake)
    elif found.wake is None:
        raise ValueError(f"{type(event).__name__} without a wake")
    else:
        _apply_to_wake(found, found.wake, event)
    return found


def _created(event: Created) -> Subscription:
    return Subscription(
        event.id,
        event.config,
        event.at,
        event.root,
        event.generation,
        paused=event.paused,
        failures=event.failures,
        last_error=event.last_error,
    )


def _apply_to_links(found: Subscription, event: Linked | Unlinked | Dropped | Paused | Acked) -> None:
    match event:
        case Linked():
            found.links.update((link.path, link) for link in event.links)
        case Acked():
            found.links.update((link.path, link) for link in event.links)
            found.failures, found.last_error = 0, None
        case Paused():
            found.paused = event.paused
        case Dropped():
            for path in event.paths:
                found.links.pop(path, None)
        case Unlinked():
            link = found.links.pop(event.path, None)
            if link is not None and link.uid is not None and found.matches(event.path):
                found.links[event.path] = link._replace(explicit=False)


def _woken(found: Subscription, event: Woken) -> Wake:
    found.generation = event.generation
    wake = Wake(event.wake_id, event.generation, event.trigger, event.at, event.entries)
    if not found.pulls:
        wake.lease_until = event.at + found.config.lease_ttl_s
    return wake


def _apply_to_wake(
    found: Subscription,
    wake: Wake,
    event: Attempted | Failed | Announced | Delivered | Claimed | Extended | Condemned | Ended,
) -> None:
    lease_s = found.config.lease_ttl_s
    match event:
        case Attempted():
            wake.lease_until = event.at + lease_s
        case Failed():
            wake.attempts += 1
            wake.next_attempt_at = event.next_attempt_at
            found.failures += 1
            found.last_error = event.error
        case Announced():
            wake.attempts, wake.next_attempt_at = 0, None
            found.failures, found.last_error = 0, None
        case Delivered():
            wake.phase = Phase.HELD
            wake.lease_until = max(wake.lease_until, event.at + lease_s)
        case Extended():
            wake.phase = Phase.HELD
            wake.lease_until = event.at + lease_s
        case Claimed():
            wake.phase, wake.holder, wake.entries = Phase.HELD, event.worker, event.entries
            wake.lease_until = event.at + lease_s
        case Condemned():
            wake.phase, wake.holder, wake.lease_until = Phase.CONDEMNED, None, 0.0
            wake.attempts, wake.next_attempt_at, wake.entries = 0, None, event.entries
            found.failures += 1
            found.last_error = event.error
        case Ended():
            found.wake = None
            _count(found, event.reason)


def _count(found: Subscription, reason: str) -> None:
    if reason == EXPIRED:
        found.failures += 1
        found.last_error = "the lease ended without an acknowledgement"
    elif reason in (DONE, BURIED):
        found.failures, found.last_error = 0, None


def snapshot(found: Subscription) -> Iterator[Event]:
    """Events that make ``found`` from nothing: what a log that has grown long is replaced by."""
    yield Created(
        found.id,
        found.config,
        found.created_at,
        found.root,
        found.generation,
        found.paused,
        found.failures,
        found.last_error,
    )
    yield from linked(found.links.values())
    if found.wake is not None:
        yield Resumed(replace(found.wake))


def linked(links: Iterable[Link]) -> Iterator[Linked]:
    """``links`` as events of a bounded size."""
    rest = iter(links)
    while some := tuple(islice(rest, LINKS_PER_EVENT)):
        yield Linked(some)
