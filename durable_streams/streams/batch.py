"""One batch: requests decided against the pending state of their streams, and what they change together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from durable_streams.protocol.errors import TooLarge
from durable_streams.protocol.outcomes import Outcome
from durable_streams.protocol.requests import Request
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change
from durable_streams.streams.deciding import decide


class Limits:
    """What the store refuses to exceed; 0 means no limit for the two sizes in bytes."""

    def __init__(
        self, stream_bytes_max: int = 0, memory_bytes_max: int = 0, pending_writes_max: int = 100_000
    ) -> None:
        self.stream_bytes_max = stream_bytes_max
        self.memory_bytes_max = memory_bytes_max
        self.pending_writes_max = pending_writes_max


class MemoryBudget:
    """Payload bytes held over all streams, those of undecided batches included, against their limit."""

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._limit = limit

    def add(self, before: StreamState | None, after: StreamState | None) -> int:
        """Count a change of one stream and return by how many bytes it grew; raises TooLarge and counts nothing."""
        growth = (after.own_bytes if after else 0) - (before.own_bytes if before else 0)
        if growth > 0 and self._limit and self.total + growth > self._limit:
            raise TooLarge("Memory limit exceeded")
        self.total += growth
        return growth


class Batch:
    """Changes that will be committed together; a refused request leaves no trace in it."""

    def __init__(
        self, load: Callable[[str, float], StreamState | None], limits: Limits, held: MemoryBudget, now: float
    ) -> None:
        self._load = load
        self._limits = limits
        self._held = held
        self._now = now
        self.payload_bytes = 0
        """Of all that has been accepted."""
        self._changes: dict[str, Change] = {}
        self._growth = 0

    def carry_out(self, request: Request) -> Outcome:
        """Decide ``request``; raises the ProtocolError that refuses it."""
        name = request.name
        change = self._changes.get(name)
        found = self._load(name, self._now) if change is None else change.after
        decision = decide(found, request, self._now, self._limits.stream_bytes_max)
        after = decision.state
        if after is found:
            return decision.outcome
        self._growth += self._held.add(found, after)
        self.payload_bytes += len(decision.data)
        if change is None:
            self._changes[name] = Change(found, after, [decision.data] if decision.data else [])
        else:
            _continue(change, after, decision.data)
        return decision.outcome

    def changes(self) -> Sequence[Change]:
        """What is to be committed: a stream that came and went within the batch is no change."""
        return [change for change in self._changes.values() if change.before or change.after]

    def roll_back(self) -> None:
        """The batch was not committed: its bytes are not held after all."""
        self._held.total -= self._growth
        self._growth = 0


def _continue(change: Change, after: StreamState | None, data: bytes) -> None:
    """Add one more step to the change of a stream."""
    pending = change.after
    if after is None or pending is None or after.config.uid != pending.config.uid:
        change.appended.clear()
    if data:
        change.appended.append(data)
    change.after = after
