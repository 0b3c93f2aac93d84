"""StreamStore: the operations on streams, for the layers that speak to clients.

The face of a ladder; each step stands on those before it: ``references`` < ``reading`` < ``forks`` < ``lifetimes``.
Changes of one stream go to the pipeline as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import time
from typing import cast

from durable_streams.protocol.caching import Precondition
from durable_streams.protocol.errors import StaleDecision, StreamDamaged
from durable_streams.protocol.expiry import has_expired, require_live
from durable_streams.protocol.offsets import Offset
from durable_streams.protocol.outcomes import Appended, Created, Removed
from durable_streams.protocol.requests import NOTHING_INHERITED, Append, Create, Inherited
from durable_streams.protocol.state import NO_EXPIRY, StreamState
from durable_streams.storage.contract import Change, Storage
from durable_streams.streams.batch import Limits
from durable_streams.streams.forks import Forks
from durable_streams.streams.internal.documents import Documents, TransientDocuments
from durable_streams.streams.internal.histories import Histories
from durable_streams.streams.internal.leases import Leases
from durable_streams.streams.lifetimes import STALE_DECISIONS_MAX, Lifetimes
from durable_streams.streams.lives import Lives
from durable_streams.streams.pipeline import Pipeline
from durable_streams.streams.reading import Page, Reader
from durable_streams.streams.references import References
from durable_streams.streams.splitting import Splitter
from durable_streams.streams.touches import Touches

__all__ = ["Page", "StreamStore"]


class StreamStore:
    """All streams of one storage."""

    def __init__(
        self,
        storage: Storage,
        limits: Limits,
        announce: Callable[[Sequence[Change]], None] = lambda changes: None,
        clock: Callable[[], float] = time,
        defaults: Inherited = NOTHING_INHERITED,
    ) -> None:
        """``announce`` is told of all changes of a batch once they are durable; ``clock`` gives seconds since 1970.

        ``defaults``: what new streams are that do not ask for anything else.
        """
        self.storage = storage
        self.is_open = False
        self._defaults = defaults
        touches = Touches(storage.shared)
        lives = Lives()

        def changed(changes: Sequence[Change]) -> None:
            for change in changes:
                before, after = change.before, change.after
                if before is None or after is None or after.config is not before.config:
                    lives.settle(change)
                    touches.settle(change)
                elif after.config.expiry is not NO_EXPIRY:
                    touches.settle(change)
            announce(changes)

        self._splitter = splitter = Splitter(limits.messages_max)
        self._pipeline = pipeline = Pipeline(storage, limits, changed, touches, clock)
        self._append = _appending(splitter, pipeline, storage)
        self._references = references = References(pipeline)
        self.reader = reader = Reader(storage, pipeline.recorded)
        forks = Forks(storage, pipeline, reader, references, lives, splitter)
        self._lifetimes = Lifetimes(storage, pipeline, touches, references, forks, lives)
        self.documents = Documents(storage, pipeline)
        self.histories = Histories(storage, pipeline)
        # Of a storage that one process owns, nobody else competes for its leases.
        records = self.documents if storage.shared else TransientDocuments()
        self.leases = Leases(records, lambda: self.clock())

    def open(self) -> None:
        """Open the storage and take requests; raises what ``Storage.open`` raises."""
        self.storage.open()
        self._pipeline.start()
        if not self.storage.shared:
            self._references.settle()
        self.is_open = True

    def close(self) -> None:
        """Commit what was accepted, record open windows, close the storage."""
        if self.is_open:
            self.is_open = False
            self._lifetimes.record_touches()
            self._pipeline.stop()
            self.storage.close()

    @property
    def failed(self) -> bool:
        """Whether a part of the storage has stopped taking writes; see ``Pipeline.failed`` and ``Storage.failed``."""
        return self._pipeline.failed or self.storage.failed

    @property
    def writes(self) -> Pipeline:
        """What every write passes: its queue, its limits and what it holds, for the metrics."""
        return self._pipeline

    @property
    def clock(self) -> Callable[[], float]:
        """Gives seconds since 1970."""
        return self._pipeline.clock

    def find(self, name: str) -> StreamState:
        """The stream for a client; raises StreamNotFound or StreamGone."""
        pipeline = self._pipeline
        now = pipeline.clock()
        return require_live(pipeline.find(name, now), name, now)

    def find_all(self, names: Sequence[str]) -> dict[str, StreamState]:
        """Those of ``names`` that a client could read, found with one question."""
        now = self.clock()
        found = self._pipeline.find_all(names, now)
        return {
            name: state
            for name, state in found.items()
            if isinstance(state, StreamState) and not state.deleted and not has_expired(state, now)
        }

    def position_of(self, state: StreamState, offset: Offset | None) -> int:
        """The position that a client means (None: the tail); raises OffsetGone or InvalidOffset.

        A position beyond the tail is refused by the read.
        """
        return self.reader.position_of(state, offset)

    def offset_at(self, state: StreamState, position: int) -> str:
        """The offset of ``position`` as clients of that stream carry it."""
        return self.reader.offset_at(state, position)

    def read(self, state: StreamState, start: int, bytes_max: int | None) -> Page:
        """At most ``bytes_max`` stored bytes from ``start``; in JSON mode whole messages, and at least one.

        None: all up to the tail; of a long rest the page has the beginning, and ``Page.more`` gives what follows.
        Raises InvalidOffset for a position beyond the tail or inside a JSON message.
        """
        return self.reader.page(state, start, bytes_max)

    def touch(self, state: StreamState) -> None:
        """A client has read, or repeated a write: the sliding window starts anew (section 5.1)."""
        self._lifetimes.touch(state)

    def attach(self, state: StreamState) -> None:
        """A live reader holds the stream until ``detach``: it does not expire meanwhile."""
        self._lifetimes.attach(state)

    def detach(self, state: StreamState) -> None:
        """The live reader has left: the window runs from now, unless another one holds it."""
        self._lifetimes.detach(state)

    def append(self, request: Append) -> Appended:
        """Sections 5.2 and 5.3; raises the ProtocolError that refuses it."""
        outcome = self._append(request)
        if outcome.duplicate and (state := self.storage.known(request.name)) is not None:
            # It wrote nothing, but it was a write that was accepted.
            self.touch(state)
        return outcome

    def create(self, request: Create) -> Created:
        """Section 5.1, and 4.2 for forks; raises the ProtocolError that refuses it."""
        asked = replace(request, inherited=self._defaults) if self._defaults != NOTHING_INHERITED else request
        return self._lifetimes.create(self._splitter.split_create(asked))

    def remove(self, name: str, precondition: Precondition | None = None) -> Removed:
        """Section 5.4; raises StreamNotFound, StreamGone or PreconditionFailed."""
        return self._lifetimes.remove(name, precondition)

    def sweep(self, limit: int = 1000) -> int:
        """Remove what has expired and what no fork reads any more; returns for how many streams that worked."""
        return self._lifetimes.sweep(limit)

    def record_held(self) -> float:
        """Record the windows that live readers of this process hold, where it is time.

        Returns when to do it again (seconds since 1970, or infinity).
        """
        return self._lifetimes.record_held()

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Up to ``limit`` names that start with ``prefix`` and sort after ``after``, in order.

        Soft-deleted and expired streams are named too, internal ones are not.
        """
        return self.reader.names(prefix, after, limit)


def _appending(splitter: Splitter, pipeline: Pipeline, storage: Storage) -> Callable[[Append], Appended]:
    """What splits an append for its stream as it is known, and again where another one of its name is met."""
    submit = cast("Callable[[Append], Appended]", pipeline.submit)

    def has_offsets(name: str) -> bool:
        try:
            state = storage.known(name)
        except StreamDamaged:
            # The pipeline meets it too, and says so.
            return False
        return state is not None and state.config.message_offsets

    def append(request: Append) -> Appended:
        for _ in range(STALE_DECISIONS_MAX):
            splitter.split_append(request, has_offsets)
            try:
                return submit(request)
            except StaleDecision:
                continue
        return submit(request)

    return append
