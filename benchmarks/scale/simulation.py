"""Many workers over one database, request by request, from what a request costs.

Time is simulated: a worker is one process on a core, the database has some cores and one log, which it flushes for all
commits that wait. A worker's shard commits what has queued in one statement; a statement holds the rows of its streams
until its flush is over, and loses those that another worker has changed since this one saw them, whose requests are
decided once more. All of that is as in `durable_streams.streams.pipeline` and `durable_streams.storage.postgres`.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

MS: Final = 1000.0
SECOND: Final = 1e6
WARM_UP: Final = 0.3
"""The part of the simulated time whose requests are not counted."""
BATCH_MAX: Final = 512
LOSS_PAUSE: Final = 2 * MS
FIRST: Final = 1
"""The version of every stream at the start; each was changed last by one of the workers, which alone knows it."""

Action = Callable[[], None]


@dataclass(frozen=True)
class Costs:
    """CPU us: of a worker for a request, a statement and a request decided again; of the database for a statement
    and for each stream in it."""

    request: float
    statement: float
    again: float
    database_statement: float
    database_stream: float


@dataclass(frozen=True)
class Shape:
    """What is simulated."""

    workers: int
    clients: int = 32
    """Of each worker; each sends its next request when the last one was answered and it has thought."""
    think: float = 0.0
    """Mean time in us between an answer and the next request."""
    streams: int = 10_000
    affinity: bool = False
    """Whether a stream is always asked for through the same worker."""
    writes: bool = True
    shards: int = 3
    worker_cores: int = 0
    """That all workers share; 0: each has its own."""
    database_cores: int = 4
    flush: float = 0.5 * MS
    round_trip: float = 0.3 * MS


@dataclass(frozen=True)
class Result:
    """Requests a second, their latency, CPU us a request, and how many were decided more than once."""

    rate: float
    p50_ms: float
    p99_ms: float
    worker_us: float
    database_us: float
    lost: float
    batch: float


@dataclass(eq=False)
class _Request:
    stream: int
    since: float
    losses: int = 0


@dataclass(eq=False)
class _Statement:
    worker: _Worker
    shard: int
    requests: list[_Request]
    seen: dict[int, int]
    """The versions of its streams that its worker has decided on."""
    lost: set[int] = field(default_factory=set)


class _Cores:
    """So many pieces of work at once; the others wait in the order in which they came."""

    def __init__(self, clock: Clock, count: int) -> None:
        self._clock, self._free = clock, count
        self._waiting: deque[tuple[float, Action]] = deque()
        self.used = 0.0

    def use(self, duration: float, then: Action) -> None:
        self._waiting.append((duration, then))
        self._start()

    def _start(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            duration, then = self._waiting.popleft()
            self.used += duration
            self._clock.after(duration, partial(self._end, then))

    def _end(self, then: Action) -> None:
        self._free += 1
        then()
        self._start()


class Clock:
    """What happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()

    def after(self, delay: float, action: Action) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), action))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()


class _Database:
    """Its cores, its rows and their locks, and its log."""

    def __init__(self, clock: Clock, costs: Costs, shape: Shape) -> None:
        self.cores = _Cores(clock, shape.database_cores)
        self.versions: dict[int, int] = defaultdict(lambda: FIRST)
        self._clock, self._costs, self._shape = clock, costs, shape
        self._locked: set[int] = set()
        self._blocked: dict[int, deque[_Statement]] = defaultdict(deque)
        self._unflushed: list[_Statement] = []
        self._is_flushing = False

    def take(self, statement: _Statement) -> None:
        if self._shape.writes:
            held = next((stream for stream in statement.seen if stream in self._locked), None)
            if held is not None:
                return self._blocked[held].append(statement)
            self._locked.update(statement.seen)
        costs = self._costs
        duration = costs.database_statement + costs.database_stream * len(statement.seen)
        self.cores.use(duration, lambda: self._carried_out(statement))

    def _carried_out(self, statement: _Statement) -> None:
        if not self._shape.writes:
            return self._answer(statement)
        for stream, version in statement.seen.items():
            if self.versions[stream] == version:
                self.versions[stream] += 1
            else:
                statement.lost.add(stream)
        self._unflushed.append(statement)
        self._flush()

    def _flush(self) -> None:
        if self._unflushed and not self._is_flushing:
            self._is_flushing = True
            together, self._unflushed = self._unflushed, []
            self._clock.after(self._shape.flush, lambda: self._flushed(together))

    def _flushed(self, together: list[_Statement]) -> None:
        self._is_flushing = False
        for statement in together:
            self._locked.difference_update(statement.seen)
        for statement in together:
            for stream in statement.seen:
                waiting = self._blocked.pop(stream, ())
                for other in waiting:
                    self.take(other)
            self._answer(statement)
        self._flush()

    def _answer(self, statement: _Statement) -> None:
        self._clock.after(self._shape.round_trip / 2, lambda: statement.worker.answered(statement))


class _Worker:
    """One process: its queues, and what it knows of the streams."""

    def __init__(self, simulation: Simulation, number: int, cores: _Cores) -> None:
        shards = simulation.shape.shards
        self.number, self.cores = number, cores
        self._simulation = simulation
        self._known: dict[int, int] = {}
        self._queues: list[deque[_Request]] = [deque() for _ in range(shards)]
        self._is_busy = [False] * shards

    def ask(self, request: _Request) -> None:
        self.cores.use(self._simulation.costs.request, lambda: self._arrived(request))

    def _arrived(self, request: _Request) -> None:
        shard = request.stream % len(self._queues)
        self._queues[shard].append(request)
        self._commit(shard)

    def _commit(self, shard: int) -> None:
        if self._is_busy[shard] or not self._queues[shard]:
            return
        self._is_busy[shard] = True
        simulation, queue = self._simulation, self._queues[shard]
        requests = [queue.popleft() for _ in range(min(len(queue), BATCH_MAX))]
        again = sum(request.losses > 0 for request in requests)
        duration = simulation.costs.statement + simulation.costs.again * again
        self.cores.use(duration, lambda: self._send(shard, requests))

    def _send(self, shard: int, requests: list[_Request]) -> None:
        simulation = self._simulation
        seen = {request.stream: self._version(request.stream) for request in requests}
        simulation.batches.append(len(requests))
        statement = _Statement(self, shard, requests, dict(sorted(seen.items())))
        simulation.clock.after(simulation.shape.round_trip / 2, lambda: simulation.database.take(statement))

    def _version(self, stream: int) -> int:
        workers = self._simulation.shape.workers
        return self._known.get(stream, FIRST if stream % workers == self.number else 0)

    def answered(self, statement: _Statement) -> None:
        simulation = self._simulation
        for stream, version in statement.seen.items():
            is_lost = stream in statement.lost
            self._known[stream] = simulation.database.versions[stream] if is_lost else version + 1
        pause = 0.0
        for request in reversed(statement.requests):
            if request.stream in statement.lost:
                request.losses += 1
                if request.losses > 1:
                    pause = max(pause, simulation.rng.uniform(0, LOSS_PAUSE * request.losses))
                self._queues[statement.shard].appendleft(request)
            else:
                simulation.done(self, request)
        simulation.clock.after(pause, lambda: self._next(statement.shard))

    def _next(self, shard: int) -> None:
        self._is_busy[shard] = False
        self._commit(shard)


class Simulation:
    """One run; the same seed gives the same run."""

    def __init__(self, costs: Costs, shape: Shape, seed: int = 1) -> None:
        self.costs, self.shape = costs, shape
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.database = _Database(self.clock, costs, shape)
        self.batches: list[int] = []
        shared = _Cores(self.clock, shape.worker_cores) if shape.worker_cores else None
        self._workers = [
            _Worker(self, number, shared or _Cores(self.clock, 1)) for number in range(shape.workers)
        ]
        self._latencies: list[float] = []
        self._lost = 0

    def run(self, seconds: float) -> Result:
        for worker in self._workers:
            for _ in range(self.shape.clients):
                self.clock.after(self.rng.uniform(0, 5 * MS), partial(self._ask, worker))
        self.clock.run(seconds * WARM_UP * SECOND)
        self._latencies.clear()
        self.batches.clear()
        self._lost = 0
        before = self._used()
        self.clock.run(seconds * SECOND)
        return self._result(seconds * (1 - WARM_UP), before)

    def done(self, worker: _Worker, request: _Request) -> None:
        self._latencies.append(self.clock.now - request.since)
        self._lost += request.losses > 0
        think = self.rng.expovariate(1 / self.shape.think) if self.shape.think else 0.0
        self.clock.after(think, partial(self._ask, worker))

    def _ask(self, worker: _Worker) -> None:
        shape = self.shape
        stream = self.rng.randrange(shape.streams)
        if shape.affinity:
            stream = stream // shape.workers * shape.workers + worker.number
        worker.ask(_Request(stream, self.clock.now))

    def _used(self) -> tuple[float, float]:
        cores = {id(worker.cores): worker.cores for worker in self._workers}
        return sum(each.used for each in cores.values()), self.database.cores.used

    def _result(self, seconds: float, before: tuple[float, float]) -> Result:
        worker_us, database_us = (now - then for now, then in zip(self._used(), before, strict=True))
        latencies = sorted(self._latencies)
        count = len(latencies)
        return Result(
            rate=count / seconds,
            p50_ms=latencies[count // 2] / MS,
            p99_ms=latencies[count * 99 // 100] / MS,
            worker_us=worker_us / count,
            database_us=database_us / count,
            lost=self._lost / count,
            batch=sum(self.batches) / len(self.batches),
        )
