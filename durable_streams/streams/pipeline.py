"""The write pipeline: queue, decide each, one commit for all, answer each, announce.

One committer greenlet a shard takes whatever is queued and makes one batch of it, so all waiting requests share
one sync, whatever the number of streams. A storage that ``commits_inline`` is called straight from the request's
greenlet, with a batch of one. Decisions are made against the pending state, so requests of a batch see each other.

Of a shared storage a batch may lose some streams to another process. What was decided on them, refusals and duplicates
too, is put back at the head of the queue and decided on what is recorded now; everything else is answered.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic, time
from typing import cast

import gevent
from gevent.event import AsyncResult, Event

from durable_streams.protocol.errors import (
    InternalError,
    OutcomeUnknown,
    ProtocolError,
    StorageFull,
    Unavailable,
)
from durable_streams.protocol.outcomes import Outcome
from durable_streams.protocol.requests import Request
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import (
    NOTHING_LOST,
    RESTS_ON_NOTHING,
    Change,
    Commit,
    Found,
    Lost,
    Storage,
)
from durable_streams.storage.finding import finder
from durable_streams.streams.batch import Batch, Limits, budget_of
from durable_streams.streams.deciding import decide
from durable_streams.streams.touches import Touches

log = logging.getLogger("durable_streams.streams")

BATCH_REQUESTS_MAX = 512
BATCH_BYTES_MAX = 32 << 20
"""Reached by the last request of a batch: more of them would share no sync that is worth their memory."""
BATCH_DECIDING_S_MAX = 0.005
"""Deciding does not switch greenlets, so a longer batch would hold up everybody else."""
LOSSES_MAX = 20
"""How often a request may lose its stream to other processes; then its client is asked to come again."""
LOSS_PAUSE_S = 0.002
"""Times the number of losses: the longest pause, drawn at random, from the second loss in a row on."""

Answer = Outcome | ProtocolError


class Pipeline:
    """Turns requests into committed changes of one storage."""

    def __init__(
        self,
        storage: Storage,
        limits: Limits,
        announce: Callable[[Sequence[Change]], None],
        touches: Touches,
        clock: Callable[[], float] = time,
    ) -> None:
        """``touches``: of windows, seen in every state that is given out or decided on."""
        self.limits, self.clock = limits, clock
        self._storage = storage
        self._record: Commit = storage.commit
        self._announce, self._touches = announce, touches
        self.recorded = finder(storage)
        """Gives the state of a stream as recorded now."""
        self.budget = budget_of(storage, limits)
        self._committers: list[_Committer] = []
        submit = self._submit_inline if storage.commits_inline else self._submit_queued
        self.submit: Callable[[Request], Outcome] = submit
        """Carries out a request, also if its caller is killed meanwhile; returns when it is as durable as the storage
        promises, or raises the ProtocolError that refuses it.
        """

    def start(self) -> None:
        """Start the committers; the storage is open. An inline storage needs none."""
        self.budget.count_streams(self._storage)
        if not self._storage.commits_inline:
            self._committers = [_Committer(self, shard) for shard in range(self._storage.shards)]

    def stop(self) -> None:
        """Commit what was accepted, then refuse what comes."""
        for committer in self._committers:
            committer.stop()

    @property
    def failed(self) -> bool:
        """Whether a shard has stopped because it could not know what became of a batch."""
        return any(committer.failed for committer in self._committers)

    def measure_commits(self, measured: Callable[[Commit], Commit]) -> None:
        """From now on call ``measured(storage.commit)`` in the place of ``storage.commit``."""
        self._record = measured(self._storage.commit)

    @property
    def pending(self) -> int:
        """Writes that wait in a queue; each shard has one."""
        return sum(committer.waiting for committer in self._committers)

    def has_failed(self, name: str) -> bool:
        """Whether it may be unknown if the last changes of this stream were kept."""
        committers = self._committers
        return self._storage.failed or bool(committers and committers[self._storage.shard_of(name)].failed)

    def known(self, name: str, now: float) -> StreamState | None:
        """The state to decide a write on, with the newest touch of its window; the commit finds out if it is old."""
        state = self._storage.known(name)
        return state if state is None or state.config.expiry.ttl_s is None else self._touches.see(state, now)

    def find(self, name: str, now: float) -> StreamState | None:
        """The state as recorded now, with the newest touch of its window."""
        if not self._storage.shared:
            return self.known(name, now)
        # Noted before the question: a touch that is recorded meanwhile may be in neither the answer nor here.
        touched_at = self._touches.latest(name, now)
        state = self.recorded(name)
        return None if state is None else self._touches.see(state, now, touched_at)

    def find_all(self, names: Sequence[str], now: float) -> dict[str, Found]:
        """What ``find`` gives, of many streams with one question."""
        touched_at = {name: self._touches.latest(name, now) for name in names}
        found = self._storage.find(names) if names else {}
        return {
            name: self._touches.see(state, now, touched_at[name]) if isinstance(state, StreamState) else state
            for name, state in found.items()
        }

    def _submit_queued(self, request: Request) -> Outcome:
        return self._committers[self._storage.shard_of(request.name)].submit(request)

    def submit_all(self, requests: Iterable[Request]) -> list[Answer]:
        """What ``submit`` returns or raises for each, submitted together so that they share commits."""
        if self._storage.commits_inline:
            return self._submit_all_inline(list(requests))
        return [_wait(waiting) for waiting in [self._enqueue(request) for request in requests]]

    def _enqueue(self, request: Request) -> _Waiting | ProtocolError:
        try:
            return self._committers[self._storage.shard_of(request.name)].enqueue(request)
        except ProtocolError as exc:
            return exc

    def submit_later(self, request: Request) -> None:
        """Carry out ``request`` later, if the storage takes it; nobody is told what became of it."""
        try:
            if self._storage.commits_inline:
                self._submit_inline(request)
            else:
                self._committers[self._storage.shard_of(request.name)].enqueue(request)
        except ProtocolError as exc:
            log.debug("a %s of stream %r was not taken: %s", type(request).__name__, request.name, exc)
        except OSError:
            # An inline storage that has failed. It reports that itself to callers that wait for an answer.
            log.exception("a %s of stream %r has failed", type(request).__name__, request.name)

    def _submit_inline(self, request: Request) -> Outcome:
        now, limits, name = self.clock(), self.limits, request.name
        found = self.known(name, now)
        decision = decide(found, request, now, limits.of(name) if limits.by_prefix else limits.of_stream)
        if decision.then is not None:
            (outcome,) = self._commit_inline([request])
            return _raise_or(outcome)
        after = decision.state
        if after is not found:
            change = Change(found, after, [decision.data], decision.entries)
            self.budget.add(found, after, decision.entries)
            try:
                self._record(0, ((change,),), RESTS_ON_NOTHING)
            except BaseException:
                self.budget.take_back(found, after, decision.entries)
                raise
            self._announce((change,))
        return decision.outcome

    def _submit_all_inline(self, requests: list[Request]) -> list[Answer]:
        try:
            return self._commit_inline(requests)
        except ProtocolError as exc:
            # There may be room for some of them.
            return [exc] if len(requests) == 1 else [self._tried_inline(request) for request in requests]

    def _tried_inline(self, request: Request) -> Answer:
        try:
            return self._submit_inline(request)
        except ProtocolError as exc:
            return exc

    def _commit_inline(self, requests: Sequence[Request]) -> list[Answer]:
        """One batch; nothing can come between its decisions and its commit."""
        batch = self.batch()
        answers = [_decide(batch, request) for request in requests]
        try:
            self.commit(0, batch)
        except BaseException:
            batch.roll_back()
            raise
        return answers

    def batch(self) -> Batch:
        return Batch(self.known, self._storage.joins, self.limits, self.budget, self.clock())

    def commit(self, shard: int, batch: Batch) -> Lost:
        """Make a batch durable, then tell who waits. What it has lost is not in the batch any more."""
        units = batch.units()
        rests_on = batch.rests_on() if self._storage.shared else RESTS_ON_NOTHING
        if not units and not rests_on:
            return NOTHING_LOST
        lost = self._record(shard, units, rests_on)
        if lost:
            lost = batch.with_units(lost)
            batch.roll_back(lost)
            units = batch.units()
        if units:
            self._announce([change for unit in units for change in unit])
        return lost


class _Waiting:
    """A request in the queue, its caller, and how often it has lost its stream to another process."""

    __slots__ = ("answer", "losses", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.answer: AsyncResult[Outcome] = AsyncResult()
        self.losses = 0


class _Committer:
    """The one greenlet that commits to a shard. Never killed; no timeout is active inside it."""

    def __init__(self, pipeline: Pipeline, shard: int) -> None:
        self.failed = False
        self._pipeline = pipeline
        self._shard = shard
        self._queue: deque[_Waiting] = deque()
        self._decided: list[tuple[_Waiting, Answer]] = []
        """The batch that is being decided or committed, with its answers."""
        self._wake = Event()
        self._stopping = False
        self._pause_s = 0.0
        """How long to wait before the next batch."""
        self._greenlet = gevent.spawn(self._run)

    def submit(self, request: Request) -> Outcome:
        return cast(Outcome, self.enqueue(request).answer.get())

    def enqueue(self, request: Request) -> _Waiting:
        if self._stopping or self.failed:
            raise Unavailable("the storage is stopping" if self._stopping else "the storage has failed")
        if len(self._queue) >= self._pipeline.limits.pending_writes_max:
            raise Unavailable("too many writes are waiting")
        waiting = _Waiting(request)
        self._queue.append(waiting)
        self._wake.set()
        return waiting

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        self._greenlet.join()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as exc:
            self._fail(exc)
            # Only what was not meant for a committer, such as a kill, goes on to gevent.
            if not isinstance(exc, Exception):
                raise

    def _serve(self) -> None:
        while True:
            self._wake.wait()
            if self._queue:
                self._serve_batch()
                # Setting an event or releasing a lock does not switch greenlets; this does.
                gevent.sleep(self._pause_s)
            elif self._stopping:
                return
            else:
                self._wake.clear()

    def _serve_batch(self) -> None:
        batch = self._pipeline.batch()
        answers: list[tuple[_Waiting, Answer]] = []
        self._decided = answers
        decide_until = monotonic() + BATCH_DECIDING_S_MAX
        while (
            self._queue
            and len(answers) < BATCH_REQUESTS_MAX
            and batch.payload_bytes < BATCH_BYTES_MAX
            and monotonic() < decide_until
        ):
            answers.append((self._queue[0], _decide(batch, self._queue[0].request)))
            self._queue.popleft()
        self._pause_s = 0.0
        self._finish(batch, answers)
        # Their bodies may be large, and the next batch may be long in coming.
        self._decided = []

    def _finish(self, batch: Batch, answers: list[tuple[_Waiting, Answer]]) -> None:
        """Commit and answer; nobody is told anything, not even a refusal, before what it rests on is durable."""
        try:
            lost = self._pipeline.commit(self._shard, batch)
        except StorageFull as exc:
            batch.roll_back()
            self._one_by_one(answers, exc)
        except (Unavailable, OutcomeUnknown) as exc:
            # Unknown only of a shared storage, where the next commit finds out what is recorded.
            batch.roll_back()
            _answer([(waiting, exc) for waiting, _ in answers])
        else:
            if lost:
                self._decide_again([waiting for waiting, _ in answers if waiting.request.name in lost])
                answers = [
                    (waiting, answer) for waiting, answer in answers if waiting.request.name not in lost
                ]
            _answer(answers)

    def _decide_again(self, losers: list[_Waiting]) -> None:
        """Put requests back at the head of the queue, in their order, or give them up."""
        for waiting in reversed(losers):
            waiting.losses += 1
            if waiting.losses > LOSSES_MAX:
                waiting.answer.set_exception(Unavailable("too many conflicting writers"))
                continue
            self._queue.appendleft(waiting)
            if waiting.losses > 1:
                # Two processes that lose in turn must not come back in step.
                self._pause_s = max(self._pause_s, random.random() * LOSS_PAUSE_S * waiting.losses)

    def _one_by_one(self, answers: list[tuple[_Waiting, Answer]], full: StorageFull) -> None:
        """There is no room for the batch; there may be for the smaller ones of it."""
        if len(answers) == 1:
            _answer([(answers[0][0], full)])
            return
        for waiting, _ in answers:
            batch = self._pipeline.batch()
            self._finish(batch, [(waiting, _decide(batch, waiting.request))])

    def _fail(self, exc: BaseException) -> None:
        """What became of the batch is unknown, so going on could lose or repeat what was acknowledged."""
        self.failed = True
        log.critical("shard %d has failed and refuses all further writes", self._shard, exc_info=exc)
        unknown = OutcomeUnknown(f"commit failed: {exc!r}")
        _answer([(waiting, unknown) for waiting, _ in self._decided if not waiting.answer.ready()])
        _answer([(waiting, Unavailable("the storage has failed")) for waiting in self._queue])
        self._queue.clear()


def _decide(batch: Batch, request: Request) -> Answer:
    try:
        return batch.decide(request)
    except ProtocolError as exc:
        return exc
    except Exception as exc:
        log.exception("a %s of stream %r failed", type(request).__name__, request.name)
        return InternalError(repr(exc))


def _wait(waiting: _Waiting | ProtocolError) -> Answer:
    if isinstance(waiting, ProtocolError):
        return waiting
    try:
        return cast(Outcome, waiting.answer.get())
    except ProtocolError as exc:
        return exc


def _raise_or(answer: Answer) -> Outcome:
    if isinstance(answer, ProtocolError):
        raise answer
    return answer


def _answer(answers: list[tuple[_Waiting, Answer]]) -> None:
    for waiting, answer in answers:
        if isinstance(answer, ProtocolError):
            waiting.answer.set_exception(answer)
        else:
            waiting.answer.set(answer)
