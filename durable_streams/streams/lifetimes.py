"""How streams begin and end: creation, windows that reads and live readers touch, removal, expiry, and the sweep.

Sections 5.1 and 5.4.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final, cast

from durable_streams.protocol.caching import Precondition
from durable_streams.protocol.errors import ProtocolError, StaleDecision, StreamDamaged, Unavailable
from durable_streams.protocol.expiry import has_expired, unrecorded_s
from durable_streams.protocol.outcomes import Created, Outcome, Removed
from durable_streams.protocol.requests import Create, Identity, Remove, Request, Touch
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Storage
from durable_streams.streams.forks import Forks
from durable_streams.streams.lives import Lives, new_uid
from durable_streams.streams.pipeline import Pipeline
from durable_streams.streams.references import References
from durable_streams.streams.touches import HELD_CHECK_S_MAX, Touches, is_ahead

STALE_DECISIONS_MAX: Final = 10
"""How often a create is prepared anew when other requests come between; then its client is asked to retry."""
HELD_AT_ONCE: Final = 512
"""Windows of live readers that are checked in one step."""

log = logging.getLogger("durable_streams.streams")


class Lifetimes:
    """The beginnings and ends of the streams of one storage."""

    def __init__(
        self,
        storage: Storage,
        pipeline: Pipeline,
        touches: Touches,
        references: References,
        forks: Forks,
        lives: Lives,
    ) -> None:
        self._storage = storage
        self._pipeline = pipeline
        self._touches = touches
        self._references = references
        self._forks = forks
        self._lives = lives

    # -- beginnings --------------------------------------------------------------------------------------------

    def create(self, request: Create) -> Created:
        """PUT, of a fork too; raises the ProtocolError that refuses it."""
        for _ in range(STALE_DECISIONS_MAX):
            try:
                return self._create(request)
            except StaleDecision:
                continue
        return self._create(request)

    def _create(self, request: Create) -> Created:
        now = self._pipeline.clock()
        found = self._pipeline.find(request.name, now)
        if found is not None and not found.deleted and has_expired(found, now):
            self._end(found, Remove(found.name, found.config.uid))
            found = self._pipeline.find(request.name, now)
        if request.fork is not None and found is None:
            return self._forks.create(request, request.fork, now)
        new = replace(request, identity=Identity(new_uid(), self._lives.begin(now)))
        return cast(Created, self._pipeline.submit(new))

    # -- windows -----------------------------------------------------------------------------------------------

    def touch(self, state: StreamState) -> None:
        """A client has read, or repeated a write: the sliding window starts anew."""
        if state.config.expiry.ttl_s is None:
            return
        recorded = self._storage.known(state.name)
        now = self._pipeline.clock()
        if recorded is not None and self._touches.touch(recorded, now):
            self._pipeline.submit_later(Touch(state.name, state.config.uid, now))

    def attach(self, state: StreamState) -> None:
        """A live reader holds the stream until ``detach``: it does not expire meanwhile."""
        if state.config.expiry.ttl_s is not None:
            self._touches.attach(state, self._pipeline.clock())

    def detach(self, state: StreamState) -> None:
        """The live reader has left: the window runs from now, unless another one holds it."""
        if state.config.expiry.ttl_s is not None:
            self._touches.detach(state.name, self._storage.known(state.name), self._pipeline.clock())

    def record_held(self) -> float:
        """Record that live readers hold windows, where an eighth has passed.

        Returns when to do it again (seconds since 1970, or infinity).
        """
        now = self._pipeline.clock()
        names = self._touches.due(now, HELD_AT_ONCE)
        try:
            found = self._storage.find(names) if names else {}
        except Unavailable:
            found = {}
        for name in names:
            recorded = found.get(name)
            check_at = now + HELD_CHECK_S_MAX
            if isinstance(recorded, StreamState):
                touched_at = recorded.touched_at
                if is_ahead(recorded, now):
                    self._pipeline.submit_later(Touch(name, recorded.config.uid, now))
                    touched_at = now
                check_at = touched_at + unrecorded_s(recorded)
            self._touches.check_at(name, check_at, now)
        self._touches.forget(now)
        return self._touches.next_check_at

    def record_touches(self) -> None:
        """Before a stop: record what is known of windows here alone."""
        now = self._pipeline.clock()
        for name in self._touches.names():
            try:
                state = self._storage.known(name)
            except StreamDamaged as exc:
                log.error("the window of a stream is not recorded: %s", exc.cause)
                continue
            if state is not None:
                self._pipeline.submit_later(Touch(name, state.config.uid, self._touches.latest(name, now)))

    # -- ends --------------------------------------------------------------------------------------------------

    def remove(self, name: str, precondition: Precondition | None) -> Removed:
        """DELETE; raises StreamNotFound, StreamGone or PreconditionFailed."""
        state = self._pipeline.find(name, self._pipeline.clock())
        return cast(Removed, self._end(state, Remove(name, precondition=precondition)))

    def _end(self, state: StreamState | None, request: Remove) -> Outcome:
        self._references.release_orphans([state] if state else [])
        outcome = self._pipeline.submit(request)
        self._references.release_left([outcome])
        return outcome

    def sweep(self, limit: int) -> int:
        """Remove what has expired and what no fork reads any more; returns for how many streams that worked.

        They are removed together and share commits. One that fails holds up no other, and is due again the next time.
        """
        now = self._pipeline.clock()
        found = self._pipeline.find_all(self._storage.due(now, limit), now)
        states = [state for state in found.values() if isinstance(state, StreamState)]
        self._references.release_orphans(
            state for state in states if state.deleted or has_expired(state, now)
        )
        outcomes = self._pipeline.submit_all(self._sweep_request(state, now) for state in states)
        self._references.release_left(outcomes)
        failures = [failure for failure in (*found.values(), *outcomes) if isinstance(failure, ProtocolError)]
        if failures:
            log.warning("%d streams could not be swept, the first because: %r", len(failures), failures[0])
        return len(found) - len(failures)

    def _sweep_request(self, state: StreamState, now: float) -> Request:
        name, uid = state.name, state.config.uid
        if state.deleted:
            return Touch(name, uid, now)
        if has_expired(state, now):
            return Remove(name, uid)
        # Only what reads have touched: the sweep itself is no reason to live longer.
        return Touch(name, uid, self._touches.latest(name, now))
