"""StreamStore: the operations on streams, for whoever speaks to clients.

Single-stream steps go through the pipeline; what needs two streams (a fork and its source) is put together here, so
that a crash between the steps leaves at most a reference that nobody uses, which the next look at it removes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import time
from typing import cast

from durable_streams.protocol.content import pass_messages
from durable_streams.protocol.creating import check_fork_content_type
from durable_streams.protocol.errors import (
    BadRequest,
    InvalidOffset,
    OutcomeUnknown,
    ProtocolError,
    StaleDecision,
    StreamDamaged,
    StreamNotFound,
)
from durable_streams.protocol.expiry import has_expired, require_live
from durable_streams.protocol.forking import check_anchor, fork_expiry, require_source
from durable_streams.protocol.outcomes import Appended, Created, Done, Outcome, Removed
from durable_streams.protocol.requests import (
    AddFork,
    Append,
    Create,
    ForkSource,
    Remove,
    RemoveFork,
    Touch,
)
from durable_streams.protocol.state import ForkPoint, StreamState
from durable_streams.storage.contract import Change, Storage
from durable_streams.streams.batch import Limits
from durable_streams.streams.pipeline import Pipeline
from durable_streams.streams.touches import Touches

log = logging.getLogger("durable_streams.streams")

SCAN_BYTES = 1 << 20
STALE_DECISIONS_MAX = 10
"""How often a request is made ready anew when others come between; then its client is asked to come again."""
_LINE_BREAK = 0x0A


@dataclass(slots=True)
class Page:
    """Stored bytes from ``start`` to ``stop`` of a stream as it was in ``state``."""

    state: StreamState
    start: int
    stop: int
    data: bytes

    @property
    def at_tail(self) -> bool:
        return self.stop == self.state.tail


class StreamStore:
    """All streams of one storage."""

    def __init__(
        self,
        storage: Storage,
        limits: Limits,
        announce: Callable[[Sequence[Change]], None] = lambda changes: None,
        clock: Callable[[], float] = time,
    ) -> None:
        """``announce`` is told of all changes of a batch once they are durable; ``clock`` gives seconds since 1970."""
        self.storage = storage
        self.clock = clock
        self.is_open = False
        self._announce = announce
        self._touches = Touches()
        self._pipeline = Pipeline(storage, limits, self._changed, self._touches, clock)
        self._forking: set[str] = set()
        """Incarnations of forks whose source holds a reference and which are being created right now."""

    def open(self) -> None:
        """Open the storage and take requests; raises what ``Storage.open`` raises."""
        self.storage.open()
        self._pipeline.start()
        self.is_open = True

    def close(self) -> None:
        """Commit what was accepted, record open windows, close the storage."""
        if self.is_open:
            self.is_open = False
            self._record_touches()
            self._pipeline.stop()
            self.storage.close()

    @property
    def failed(self) -> bool:
        """Whether a part of the storage has stopped taking writes; see ``Pipeline.failed`` and ``Storage.failed``."""
        return self._pipeline.failed or self.storage.failed

    # -- looking ---------------------------------------------------------------------------------------------

    def find(self, name: str) -> StreamState:
        """The stream for a client; raises StreamNotFound or StreamGone."""
        now = self.clock()
        return require_live(self._pipeline.current(name, now), name, now)

    def read(self, state: StreamState, start: int, bytes_max: int) -> Page:
        """At most ``bytes_max`` stored bytes from ``start``; in JSON mode whole messages, and at least one.

        Raises InvalidOffset for a position beyond the tail or inside a JSON message.
        """
        if start > state.tail:
            raise InvalidOffset("Invalid offset: it lies beyond the tail of the stream")
        stop = min(state.tail, start + bytes_max)
        if state.config.is_json and stop > start:
            return self._read_messages(state, start, stop)
        return Page(state, start, stop, self.read_bytes(state, start, stop))

    def read_bytes(self, state: StreamState, start: int, stop: int) -> bytes:
        """Stored bytes of a stream, those that a fork inherits included (section 4.2)."""
        if state.config.forked_at <= start < stop:
            return self.storage.read(state, start, stop)
        parts: list[bytes] = []
        while start < stop:
            base = state.config.forked_at
            if stop > base:
                parts.append(self.storage.read(state, max(start, base), stop))
                stop = base
            if start < stop:
                state = self._source_of(state)
        return parts[0] if len(parts) == 1 else b"".join(reversed(parts))

    def touch(self, state: StreamState) -> None:
        """A client has read, or repeated a write: the sliding window starts anew (section 5.1)."""
        if state.config.expiry.ttl_s is None:
            return
        recorded = self.storage.load(state.name)
        now = self.clock()
        if recorded is not None and self._touches.renew(recorded, now):
            self._pipeline.submit_later(Touch(state.name, state.config.uid, now))

    def attach(self, state: StreamState) -> None:
        """A live reader holds the stream until ``detach``: it does not expire meanwhile."""
        if state.config.expiry.ttl_s is not None:
            self._touches.attach(state.name)

    def detach(self, state: StreamState) -> None:
        if state.config.expiry.ttl_s is not None:
            self._touches.detach(state.name, self.storage.load(state.name), self.clock())

    # -- changing --------------------------------------------------------------------------------------------

    def append(self, request: Append) -> Appended:
        """Sections 5.2 and 5.3; raises the ProtocolError that refuses it."""
        outcome = cast(Appended, self._pipeline.submit(request))
        if outcome.duplicate and (state := self.storage.load(request.name)) is not None:
            # It wrote nothing, but it was a write that was accepted.
            self.touch(state)
        return outcome

    def create(self, request: Create) -> Created:
        """Section 5.1, and 4.2 for forks; raises the ProtocolError that refuses it."""
        for _ in range(STALE_DECISIONS_MAX):
            try:
                return self._create(request)
            except StaleDecision:
                continue
        return self._create(request)

    def _create(self, request: Create) -> Created:
        now = self.clock()
        found = self._pipeline.current(request.name, now)
        if found is not None and not found.deleted and has_expired(found, now):
            self.expire(found)
            found = self._pipeline.current(request.name, now)
        if request.fork is not None and found is None:
            return self._create_fork(request, request.fork, now)
        return cast(Created, self._pipeline.submit(replace(request, uid=new_uid())))

    def remove(self, name: str) -> Removed:
        """Section 5.4; raises StreamNotFound or StreamGone."""
        self._drop_orphans(self._pipeline.current(name, self.clock()))
        removed = cast(Removed, self._pipeline.submit(Remove(name)))
        self._release(_reference_of(removed))
        return removed

    def expire(self, state: StreamState) -> None:
        """Remove one uid if its time has come."""
        self._drop_orphans(state)
        self._release(_reference_of(self._pipeline.submit(Remove(state.name, state.config.uid))))

    def sweep(self, limit: int = 1000) -> int:
        """Remove what has expired and what no fork reads any more; returns for how many streams that worked.

        One that fails holds up no other, and is due again the next time.
        """
        now = self.clock()
        due = self.storage.due(now, limit)
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
        state = self._pipeline.current(name, now)
        if state is None:
            return
        if state.deleted:
            self._drop_orphans(state)
            self._pipeline.submit(Touch(name, state.config.uid, now))
        elif has_expired(state, now):
            self.expire(state)
        else:
            # Only what reads have renewed: the sweeper's own look is no reason to live longer.
            self._pipeline.submit(Touch(name, state.config.uid, state.touched_at))

    # -- forks -----------------------------------------------------------------------------------------------

    def _create_fork(self, request: Create, fork: ForkSource, now: float) -> Created:
        source = require_source(self._pipeline.current(fork.source, now), fork.source, now)
        check_fork_content_type(source, request)
        anchor = source.tail if fork.position is None else fork.position
        check_anchor(source, anchor)
        point = ForkPoint(
            source.name,
            source.config.uid,
            self._sub_position(source, anchor, fork.sub_offset),
            anchor,
            fork.sub_offset,
            inherits_expiry=request.expiry.ttl_s is None and request.expiry.expires_at is None,
        )
        resolved = replace(
            request,
            content_type=request.content_type or source.config.content_type,
            uid=new_uid(),
            fork_point=point,
            inherited_expiry=fork_expiry(source.config.expiry, request.expiry),
        )
        return self._create_with_reference(resolved, point)

    def _create_with_reference(self, request: Create, point: ForkPoint) -> Created:
        fork = request.uid
        release = RemoveFork(point.source, point.source_uid, fork)
        self._forking.add(fork)
        is_known = True
        try:
            self._pipeline.submit(AddFork(point.source, point.source_uid, fork, request.name))
            try:
                created = cast(Created, self._pipeline.submit(request))
            except OutcomeUnknown:
                # The next opening will know whether there is a fork; until then its source must not go.
                is_known = False
                raise
            except ProtocolError:
                self._release(release)
                raise
            if created.existed:
                self._release(release)
            return created
        finally:
            if is_known:
                self._forking.discard(fork)

    def _sub_position(self, source: StreamState, anchor: int, sub_offset: int) -> int:
        """The position ``sub_offset`` bytes, or JSON messages, past ``anchor``; raises BadRequest beyond the tail."""
        if not source.config.is_json:
            if anchor + sub_offset > source.tail:
                raise BadRequest("Fork sub-offset is beyond the source stream's tail")
            return anchor + sub_offset
        if 0 < anchor < source.tail and self.read_bytes(source, anchor - 1, anchor) != b"\n":
            raise InvalidOffset("Invalid offset: it lies inside a JSON message")
        position = anchor
        while sub_offset:
            if position == source.tail:
                raise BadRequest("Fork sub-offset is beyond the source stream's tail")
            data = self.read_bytes(source, position, min(source.tail, position + SCAN_BYTES))
            sub_offset, passed = pass_messages(data, sub_offset)
            position += passed
        return position

    def _source_of(self, state: StreamState) -> StreamState:
        fork = state.config.fork
        assert fork is not None
        source = self.storage.load(fork.source)
        if source is None or source.config.uid != fork.source_uid:
            if self._is_orphan(state.config.uid, state.name):
                raise StreamNotFound(state.name)
            raise StreamDamaged(f"fork {state.name!r} has lost its source {fork.source!r}")
        return source

    def _release(self, reference: RemoveFork | None) -> None:
        """When a fork has gone, its source loses a reference, and may go as well, and so on up the chain.

        What fails here is no failure of the caller, who has done what was asked: a reference that nobody uses is
        dropped at the next look at its stream.
        """
        while reference is not None:
            try:
                outcome = self._pipeline.submit(reference)
            except ProtocolError as exc:
                log.warning("stream %r keeps a reference for now: %r", reference.name, exc)
                return
            reference = _reference_of(outcome) or self._next_orphan(outcome)

    def _next_orphan(self, outcome: Outcome) -> RemoveFork | None:
        """A soft-deleted stream does not outlive its last fork for the sake of references that a crash left."""
        state = outcome.state if isinstance(outcome, Done) else None
        if state is None or not state.deleted:
            return None
        if not all(self._is_orphan(*reference) for reference in state.forks.items()):
            return None
        return RemoveFork(state.name, state.config.uid, next(iter(state.forks)))

    def _drop_orphans(self, state: StreamState | None) -> None:
        """Release references whose fork never came to be, or has gone, because of a crash between two steps."""
        if state is None:
            return
        for uid, name in state.forks.items():
            if self._is_orphan(uid, name):
                self._release(RemoveFork(state.name, state.config.uid, uid))

    def _is_orphan(self, uid: str, name: str) -> bool:
        if uid in self._forking:
            return False
        try:
            fork = self.storage.load(name)
        except StreamDamaged:
            # It may be restored.
            return False
        return fork is None or fork.config.uid != uid

    # -- inside ----------------------------------------------------------------------------------------------

    def _read_messages(self, state: StreamState, start: int, stop: int) -> Page:
        """``stop`` moves back to the end of a message, or on to the end of one that is larger than a page."""
        before = 1 if start else 0
        data = self.read_bytes(state, start - before, stop)
        if before and data[0] != _LINE_BREAK:
            raise InvalidOffset("Invalid offset: it lies inside a JSON message")
        end = len(data) if stop == state.tail else data.rfind(b"\n") + 1
        data = data[before:end] if end > before else self._whole_message(state, data[before:], stop)
        return Page(state, start, start + len(data), data)

    def _whole_message(self, state: StreamState, begun: bytes, stop: int) -> bytes:
        parts = [begun]
        while True:
            more = self.read_bytes(state, stop, min(state.tail, stop + SCAN_BYTES))
            stop += len(more)
            end = more.find(b"\n") + 1
            parts.append(more[:end] if end else more)
            if end or not more:
                return b"".join(parts)

    def _changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._touches.settle(change)
        self._announce(changes)

    def _record_touches(self) -> None:
        now = self.clock()
        for name in list(self._touches):
            try:
                state = self.storage.load(name)
            except StreamDamaged as exc:
                log.error("the window of a stream is not recorded: %s", exc.cause)
                continue
            if state is not None:
                at = min(self._touches.get(name), now)
                self._pipeline.submit_later(Touch(name, state.config.uid, at))


def _reference_of(outcome: Outcome) -> RemoveFork | None:
    """What a stream that has gone for good held of its source."""
    if not isinstance(outcome, Removed) or outcome.retained:
        return None
    config = outcome.state.config
    fork = config.fork
    return RemoveFork(fork.source, fork.source_uid, config.uid) if fork else None


def new_uid() -> str:
    return os.urandom(8).hex()
