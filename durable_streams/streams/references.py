"""References: which forks read a stream's bytes, recorded with their source.

A reference is taken before, or with, the creation of its fork, and released after, or with, the end of the fork. So
bytes never go before their last reader. Where fork and source cannot be committed together, a crash between the two
steps leaves a reference without a fork: an orphan. It is released when its stream is next removed or swept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from durable_streams.protocol.errors import ProtocolError, StreamDamaged, Unavailable
from durable_streams.protocol.forking import is_orphan
from durable_streams.protocol.outcomes import Done, Outcome, Removed
from durable_streams.protocol.requests import RemoveFork
from durable_streams.protocol.state import StreamState
from durable_streams.streams.pipeline import Pipeline

log = logging.getLogger("durable_streams.streams")


class References:
    """The references of all streams of one storage."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._settled_at = 0.0

    def settle(self) -> None:
        """This process alone has the storage, and begins now: no fork is being created."""
        self._settled_at = self._pipeline.clock()

    def release(self, references: Iterable[RemoveFork]) -> None:
        """Release references; a stream may go with its last one, and then what it refers to, up the chain.

        A failure here is not one of the caller, whose work is done: the reference is an orphan from now on.
        """
        requests = list(references)
        while requests:
            outcomes = self._pipeline.submit_all(requests)
            for request, outcome in zip(requests, outcomes, strict=True):
                if isinstance(outcome, ProtocolError):
                    log.warning("stream %r keeps a reference for now: %r", request.name, outcome)
            requests = self._left_by(outcomes)

    def release_left(self, outcomes: Iterable[Outcome | ProtocolError]) -> None:
        """Release what streams that ended with ``outcomes`` referred to, where that was not done in the same step."""
        self.release(self._left_by(outcomes))

    def release_orphans(self, states: Iterable[StreamState]) -> None:
        """Release the references of these streams whose forks never came to be, or are gone."""
        self.release(orphan for state in states for orphan in self._orphans(state))

    def _left_by(self, outcomes: Iterable[Outcome | ProtocolError]) -> list[RemoveFork]:
        """What is still to be released: the source of a stream that is gone, and a source that only orphans hold."""
        left: list[RemoveFork] = []
        for outcome in outcomes:
            if isinstance(outcome, Removed) and outcome.then is not None:
                left.append(outcome.then)
            released = outcome.released if isinstance(outcome, Removed) else None
            source = outcome.state if isinstance(outcome, Done) else released
            if source is not None and source.deleted:
                orphans = self._orphans(source)
                left += orphans if len(orphans) == len(source.forks) else ()
        return left

    def _orphans(self, state: StreamState) -> list[RemoveFork]:
        """The references of a stream that have no fork, as far as that can be told."""
        now = self._pipeline.clock()
        names = {reference.name for reference in state.forks.values()}
        found = self._find(names, now) if names else {}
        return [
            RemoveFork(state.name, state.config.uid, uid)
            for uid, reference in state.forks.items()
            if reference.name in found
            and is_orphan(uid, reference, found[reference.name], now, self._settled_at)
        ]

    def _find(self, names: Iterable[str], now: float) -> dict[str, StreamState | None]:
        """The states of those streams of which it is known for certain whether they are there."""
        certain = [name for name in names if not self._pipeline.has_failed(name)]
        try:
            found = self._pipeline.find_all(certain, now)
        except Unavailable:
            return {}
        # A damaged fork may be restored.
        return {name: state for name, state in found.items() if not isinstance(state, StreamDamaged)}
