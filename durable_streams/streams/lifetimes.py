"""How streams end: windows that reads and live readers touch, removal, expiry, and the sweep (sections 5.1 and 5.4)."""

from __future__ import annotations

import logging
from typing import cast

from durable_streams.protocol.errors import ProtocolError, StreamDamaged
from durable_streams.protocol.expiry import has_expired
from durable_streams.protocol.outcomes import Removed
from durable_streams.protocol.requests import Remove, Touch
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Storage
from durable_streams.streams.pipeline import Pipeline
from durable_streams.streams.references import References, reference_of
from durable_streams.streams.touches import Touches

log = logging.getLogger("durable_streams.streams")


class Lifetimes:
    """The ends of the streams of one storage."""

    def __init__(
        self, storage: Storage, pipeline: Pipeline, touches: Touches, references: References
    ) -> None:
        self._storage = storage
        self._pipeline = pipeline
        self._touches = touches
        self._references = references

    # -- windows -----------------------------------------------------------------------------------------------

    def touch(self, state: StreamState) -> None:
        """A client has read, or repeated a write: the sliding window starts anew."""
        if state.config.expiry.ttl_s is None:
            return
        recorded = self._storage.known(state.name)
        now = self._pipeline.clock()
        if recorded is not None and self._touches.renew(recorded, now):
            self._pipeline.submit_later(Touch(state.name, state.config.uid, now))

    def attach(self, state: StreamState) -> None:
        """A live reader holds the stream until ``detach``: it does not expire meanwhile."""
        if state.config.expiry.ttl_s is not None:
            self._touches.attach(state.name)

    def detach(self, state: StreamState) -> None:
        if state.config.expiry.ttl_s is not None:
            self._touches.detach(state.name, self._storage.known(state.name), self._pipeline.clock())

    def record_touches(self) -> None:
        """Before a stop: record what is known of windows here alone."""
        now = self._pipeline.clock()
        for name in list(self._touches):
            try:
                state = self._storage.known(name)
            except StreamDamaged as exc:
                log.error("the window of a stream is not recorded: %s", exc.cause)
                continue
            if state is not None:
                at = min(self._touches.get(name), now)
                self._pipeline.submit_later(Touch(name, state.config.uid, at))

    # -- ends --------------------------------------------------------------------------------------------------

    def remove(self, name: str) -> Removed:
        """DELETE; raises StreamNotFound or StreamGone."""
        self._references.drop_orphans(self._pipeline.find(name, self._pipeline.clock()))
        removed = cast(Removed, self._pipeline.submit(Remove(name)))
        self._references.release(reference_of(removed))
        return removed

    def expire(self, state: StreamState) -> None:
        """Remove one uid if its time has come."""
        self._references.drop_orphans(state)
        self._references.release(reference_of(self._pipeline.submit(Remove(state.name, state.config.uid))))

    def sweep(self, limit: int) -> int:
        """Remove what has expired and what no fork reads any more; returns for how many streams that worked.

        One that fails holds up no other, and is due again the next time.
        """
        now = self._pipeline.clock()
        due = self._storage.due(now, limit)
        failures: list[ProtocolError] = []
        for name in due:
            try:
                self._sweep_stream(name, now)
            except ProtocolError as exc:
                failures.append(exc)
        if failures:
            log.warning("%d streams could not be swept, the first because: %r", len(failures), failures[0])
        return len(due) - len(failures)

    def _sweep_stream(self, name: str, now: float) -> None:
        state = self._pipeline.find(name, now)
        if state is None:
            return
        if state.deleted:
            self._references.drop_orphans(state)
            self._pipeline.submit(Touch(name, state.config.uid, now))
        elif has_expired(state, now):
            self.expire(state)
        else:
            # Only what reads have touched: the sweep itself is no reason to live longer.
            self._pipeline.submit(Touch(name, state.config.uid, state.touched_at))
