"""What is counted while requests run: plain integers, so that a request pays for no label, lock or library."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import Final

from durable_streams.exchanges import Exchange, Problem
from durable_streams.protocol.expiry import has_expired
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change, Commit, Lost, Unit
from durable_streams.streams.wakes import EVERYTHING, Interest

REQUEST_BOUNDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    5.0,
    30.0,
    60.0,
)
"""Seconds; the last two are those of a long-poll and of an event stream."""
DISK_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds."""
BATCH_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SYNCS_KEPT: Final = 10_000
"""Times of syncs that no one has counted yet; they are counted once a second."""


class Histogram:
    """Counts of values by bucket; the last bucket is that of everything above the bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def note(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class RequestCounts:
    """Requests by operation and status, errors by code, live reads by kind and reason; an observer of the web floor."""

    def __init__(self) -> None:
        self.durations: dict[tuple[str, int], Histogram] = defaultdict(lambda: Histogram(REQUEST_BOUNDS))
        """Seconds by operation and first digit of the status. An event stream has its own when it begins."""
        self.errors: Counter[str] = Counter()
        self.live_ends: Counter[tuple[str, str]] = Counter()
        self.live_bytes: Counter[str] = Counter()

    def finished(self, exchange: Exchange, status: int, duration_ns: int, error: Problem | None) -> None:
        self.durations[exchange.operation, status // 100].note(duration_ns * 1e-9)
        if error is not None:
            self.errors[error.code] += 1

    def ended(self, exchange: Exchange, duration_ns: int) -> None:
        kind = exchange.live or ""
        self.live_ends[kind, str(exchange.end)] += 1
        self.live_bytes[kind] += exchange.sent_bytes


class WakeCounts:
    """A listener that counts what the others are told."""

    def __init__(self) -> None:
        self.wakes = 0
        self.interest: Final = Interest(EVERYTHING)

    def announce(self, name: str) -> None:
        self.wakes += 1

    def announce_all(self) -> None:
        self.wakes += 1

    def watched(self) -> tuple[str, ...]:
        return ()


class CommitCounts:
    """What batches hold, and how long the storage takes for them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` gives seconds since 1970."""
        self.durations = Histogram(DISK_BOUNDS)
        self.sizes = Histogram(BATCH_BOUNDS)
        """Changes in a batch: each append is one."""
        self.appended_bytes = 0
        self.created = 0
        self.deleted = 0
        self.expired = 0
        self.failures = 0
        self._clock = clock

    def timed(self, commit: Commit) -> Commit:
        """``commit``, counted."""

        def timed_commit(
            shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]
        ) -> Lost:
            began = perf_counter_ns()
            try:
                lost = commit(shard, units, rests_on)
            except BaseException:
                self.failures += 1
                raise
            self.durations.note((perf_counter_ns() - began) * 1e-9)
            self._note(_kept(units, lost) if lost else units)
            return lost

        return timed_commit

    def _note(self, units: Sequence[Unit]) -> None:
        changes = 0
        for unit in units:
            for change in unit:
                before, after, appended = change.before, change.after, change.appended
                changes += len(appended) or 1
                for data in appended:
                    self.appended_bytes += len(data)
                # An append, the usual case, keeps the very object.
                if before is None or after is None or before.config is not after.config or after.deleted:
                    self._note_life(change)
        self.sizes.note(changes)

    def _note_life(self, change: Change) -> None:
        before, after, is_new = change.before, change.after, change.is_new
        self.created += is_new
        if before is None or before.deleted or not (is_new or after is None or after.deleted):
            return
        if has_expired(before, self._clock()):
            self.expired += 1
        else:
            self.deleted += 1


def _kept(units: Sequence[Unit], lost: Lost) -> list[Unit]:
    return [unit for unit in units if not any(change.name in lost for change in unit)]


class SyncTimes:
    """How long syncs take. They run in native threads, so they only leave their times here."""

    def __init__(self) -> None:
        self.durations = Histogram(DISK_BOUNDS)
        self._left: deque[float] = deque(maxlen=SYNCS_KEPT)
        self.note = self._left.append
        """Told the seconds of one sync, in any thread."""

    def count(self) -> None:
        """Take over the times that threads have left; in the thread of the loop."""
        while self._left:
            self.durations.note(self._left.popleft())
