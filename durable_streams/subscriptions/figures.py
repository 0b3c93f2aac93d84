"""What subscriptions do, in numbers: deliveries as they happen, and how far behind workers are when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from durable_streams.eventloop.turns import yield_to_loop
from durable_streams.protocol.subscriptions.config import PULL_WAKE, WEBHOOK
from durable_streams.subscriptions.registry import Registry

SLICE: Final = 2000
"""Subscriptions that are looked at between two turns of the event loop: about a millisecond."""


class DeliveryCounts:
    """Of the deliveries of this process, by the type of their subscription."""

    def __init__(self) -> None:
        self.attempts = dict.fromkeys((WEBHOOK, PULL_WAKE), 0)
        """Wakes that were sent to a receiver, or to a wake stream."""
        self.failures = dict.fromkeys((WEBHOOK, PULL_WAKE), 0)
        self.dead_letters = 0
        self.expired_leases = 0
        """Leases that ended without an ack, so the wake is delivered again."""


@dataclass(slots=True)
class Backlog:
    """How far behind the workers of all subscriptions are at one moment."""

    subscriptions: int = 0
    pending: int = 0
    """Subscriptions with something that was not acked."""
    failing: int = 0
    pending_streams: int = 0
    """Links with something that was not acked."""
    lag_s: float = 0.0
    """How long the one that has waited longest has been pending without a break."""


def backlog_of(registry: Registry) -> Backlog:
    """Counted in slices, so that others get their turn."""
    found, now = Backlog(), registry.clock()
    for index, tracked in enumerate(registry.snapshot(), 1):
        if index % SLICE == 0:
            yield_to_loop()
        if not tracked.exists:
            continue
        found.subscriptions += 1
        found.failing += tracked.sub.is_failing
        if tracked.pending_since is not None:
            found.pending += 1
            found.pending_streams += len(tracked.behind)
            found.lag_s = max(found.lag_s, now - tracked.pending_since)
    return found
