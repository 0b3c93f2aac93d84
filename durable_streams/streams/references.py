"""References: which forks read a stream's bytes, recorded with their source.

A reference is taken before its fork is created and released after the fork has gone, so the source's bytes never go
before their last reader. A crash between two steps leaves a reference without a fork: an orphan. It is released the
next time that somebody removes or sweeps its stream.
"""

from __future__ import annotations

import logging

from durable_streams.protocol.errors import ProtocolError, StreamDamaged
from durable_streams.protocol.outcomes import Done, Outcome, Removed
from durable_streams.protocol.requests import RemoveFork
from durable_streams.protocol.state import StreamState
from durable_streams.streams.pipeline import Pipeline

log = logging.getLogger("durable_streams.streams")


class References:
    """The references of all streams of one storage."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.forking: set[str] = set()
        """Uids of forks whose source has a reference and that are being created now."""
        self._pipeline = pipeline

    def release(self, reference: RemoveFork | None) -> None:
        """Drop a reference; its stream may go with it, and then what that one referred to, up the chain.

        A failure here is not one of the caller, who has done what was asked: the reference is an orphan from now on.
        """
        while reference is not None:
            try:
                outcome = self._pipeline.submit(reference)
            except ProtocolError as exc:
                log.warning("stream %r keeps a reference for now: %r", reference.name, exc)
                return
            reference = reference_of(outcome) or self._next_orphan(outcome)

    def drop_orphans(self, state: StreamState | None) -> None:
        """Release the references of a stream whose forks never came to be, or have gone."""
        if state is None:
            return
        for uid, name in state.forks.items():
            if self._is_orphan(uid, name):
                self.release(RemoveFork(state.name, state.config.uid, uid))

    def _next_orphan(self, outcome: Outcome) -> RemoveFork | None:
        """A soft-deleted stream that only orphans hold goes too: one of them."""
        state = outcome.state if isinstance(outcome, Done) else None
        if state is None or not state.deleted:
            return None
        if not all(self._is_orphan(*reference) for reference in state.forks.items()):
            return None
        return RemoveFork(state.name, state.config.uid, next(iter(state.forks)))

    def _is_orphan(self, uid: str, name: str) -> bool:
        if uid in self.forking:
            return False
        try:
            fork = self._pipeline.recorded(name)
        except StreamDamaged:
            # It may be restored.
            return False
        return fork is None or fork.config.uid != uid


def reference_of(outcome: Outcome) -> RemoveFork | None:
    """The reference that a stream held, if ``outcome`` says that it has gone for good."""
    if not isinstance(outcome, Removed) or outcome.retained:
        return None
    config = outcome.state.config
    fork = config.fork
    return RemoveFork(fork.source, fork.source_uid, config.uid) if fork else None
