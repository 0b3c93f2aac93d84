"""The sweeper: removes expired streams in the background, in one of the processes that share a storage.

That process holds the lease ``sweeper``. Every step of a sweep is a compare-and-set, so two sweepers for a moment are
wasteful and not wrong. Every process records the windows that its own live readers hold, and counts the streams of a
shared storage for ``limits.max_streams``.
"""

from __future__ import annotations

import logging
from typing import Final

from gevent.event import Event

from durable_streams.eventloop.turns import yield_to_loop
from durable_streams.streams.internal.leases import Leadership
from durable_streams.streams.store import StreamStore

SWEEP_INTERVAL_S: Final = 1.0
SWEEP_STREAMS_MAX: Final = 512
"""Streams in one step of a sweep: as many as share one commit, and about 5 ms where no disk is waited for.

Between two steps every connection gets one turn at the most, so a sweep outruns the creation of streams.
"""
RECOUNT_S: Final = 10.0
"""So old is what a process knows of the number of streams in a shared storage."""
LEASE_NAME: Final = "sweeper"
LEASE_S: Final = 15.0
PAUSE_S_MIN: Final = 0.05
"""Between two checks of held windows that are shorter than a second."""

log = logging.getLogger("durable_streams.streams")


class Sweeper:
    """Sweeps one store. Its greenlet calls ``run``."""

    def __init__(self, store: StreamStore) -> None:
        self._store = store
        self._leadership = Leadership(store.leases, LEASE_NAME, store.clock, LEASE_S)
        self._recount_at = store.clock() + RECOUNT_S

    def run(self, closing: Event) -> None:
        """Sweep each second until ``closing`` is set, then let another process take over."""
        pause_s = SWEEP_INTERVAL_S
        while not closing.wait(pause_s):
            pause_s = self._round(closing)
        self._leadership.resign()

    def _round(self, closing: Event) -> float:
        """Returns after how many seconds the next one is due."""
        try:
            again_at = self._store.record_held()
            self._sweep(closing)
            self._recount()
        except Exception:
            # What was due is due again in the next round.
            log.exception("sweeping expired streams failed")
            return SWEEP_INTERVAL_S
        return min(SWEEP_INTERVAL_S, max(PAUSE_S_MIN, again_at - self._store.clock()))

    def _recount(self) -> None:
        """Other processes create and remove streams too, where they share the storage."""
        store, now = self._store, self._store.clock()
        if store.storage.shared and now >= self._recount_at:
            self._recount_at = now + RECOUNT_S
            store.writes.budget.count_streams(store.storage)

    def _sweep(self, closing: Event) -> None:
        while self._leadership.leads() and not closing.is_set():
            if self._store.sweep(SWEEP_STREAMS_MAX) < SWEEP_STREAMS_MAX:
                return
            yield_to_loop()
