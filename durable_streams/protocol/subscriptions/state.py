"""What must be remembered of a subscription: its links with their cursors, and the wake in flight (sections 6.1, 7).

Streams are seen as ``StreamState``, None for one that is not there. A link's position counts only for the stream that
it was made for: one that was deleted and created again is read from its start.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from durable_streams.protocol.state import StreamState
from durable_streams.protocol.subscriptions.config import BEGINNING, PULL_WAKE, SubscriptionConfig
from durable_streams.protocol.subscriptions.globs import Glob


class Link(NamedTuple):
    """One cursor. A stream that only the pattern matches needs none before something was acked in it."""

    path: str
    uid: str | None
    """The stream that ``position`` belongs to; None: there was none when it was linked."""
    position: int
    """After the last acked byte."""
    explicit: bool = False
    end_acked: bool = False
    """For ``on_close``: the worker has been told of the stream's end, and has acked it."""


class Entry(NamedTuple):
    """A stream that is pending, in the snapshot of a wake: what an ack of the whole wake acks."""

    path: str
    uid: str
    position: int
    offset: str
    """``position`` as the client has seen it."""
    closed: bool = False


class Phase(StrEnum):
    WAKING = "waking"
    """To be delivered, or delivered and not answered yet; a pull-wake waits for a claim."""
    HELD = "held"
    """A worker has it, until its lease ends."""
    CONDEMNED = "condemned"
    """It has failed for the last time: its events go to the dead letters."""


@dataclass(slots=True)
class Wake:
    """The wake in flight; at most one for a subscription."""

    id: str
    generation: int
    trigger: str
    """The stream that caused it."""
    issued_at: float
    """Seconds since 1970, as all times here."""
    entries: tuple[Entry, ...] = ()
    phase: Phase = Phase.WAKING
    holder: str | None = None
    lease_until: float = 0.0
    attempts: int = 0
    """Deliveries that have failed."""
    next_attempt_at: float | None = None
    """When the next one is due; None: at once, or none."""


@dataclass(slots=True)
class Subscription:
    """A subscription at one moment; only the events of ``events.py`` change it."""

    id: str
    config: SubscriptionConfig
    created_at: float
    root: str
    """The URL of the stream root as the creating client used it."""
    generation: int = 0
    """Of the newest wake; never the same twice."""
    links: dict[str, Link] = field(default_factory=dict)
    wake: Wake | None = None
    paused: bool = False
    failures: int = 0
    """Deliveries that failed, and leases that ended without an ack, since the last success."""
    last_error: str | None = None
    glob: Glob | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pattern = self.config.pattern
        self.glob = None if pattern is None else Glob(pattern)

    @property
    def pulls(self) -> bool:
        return self.config.type == PULL_WAKE

    @property
    def is_failing(self) -> bool:
        """Whether a delivery has failed and is tried again (`status: failed`, section 6.3)."""
        wake = self.wake
        return wake is not None and wake.attempts > 0 and wake.phase is not Phase.HELD

    def matches(self, path: str) -> bool:
        """Whether the pattern links ``path``; never a stream that the subscription writes itself."""
        return self.glob is not None and path not in self.config.channels and self.glob.matches(path)

    def is_explicit(self, path: str) -> bool:
        link = self.links.get(path)
        return link is not None and link.explicit

    def is_linked(self, path: str) -> bool:
        return self.is_explicit(path) or self.matches(path)

    def link_of(self, path: str, stream: StreamState) -> Link:
        """The link to a stream that is there: the recorded one, or one for a stream that was found later."""
        link = self.links.get(path)
        if link is not None and link.uid == stream.config.uid:
            return link
        explicit = link is not None and link.explicit
        return Link(path, stream.config.uid, self.first_position(stream), explicit)

    def first_position(self, stream: StreamState) -> int:
        """Where a stream that was found later is read from: all of it but what a fork has inherited."""
        return 0 if self.config.start == BEGINNING else stream.config.forked_at

    def is_pending(self, path: str, stream: StreamState | None) -> bool:
        """Whether the linked stream has something that was not acked."""
        if stream is None:
            return False
        link = self.link_of(path, stream)
        return stream.tail > link.position or self.ends_unacked(link, stream)

    def ends_unacked(self, link: Link, stream: StreamState) -> bool:
        """Extension ``on_close``: whether the end of the stream is news."""
        return self.config.on_close and stream.closed and not link.end_acked

    def copy(self) -> Subscription:
        """Another one that can change by itself."""
        return replace(self, links=dict(self.links), wake=replace(self.wake) if self.wake else None)
