"""One batch: requests decided against the pending state of their streams, and what they change together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from durable_streams.protocol.errors import TooLarge
from durable_streams.protocol.outcomes import Outcome
from durable_streams.protocol.requests import Request
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change, Unit
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
    """Payload bytes held over all streams, those of pending batches included, against their limit."""

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._limit = limit

    def add(self, before: StreamState | None, after: StreamState | None) -> None:
        """Count a change of one stream; raises TooLarge and counts nothing."""
        growth = _growth(before, after)
        if growth > 0 and self._limit and self.total + growth > self._limit:
            raise TooLarge("Memory limit exceeded")
        self.total += growth

    def take_back(self, before: StreamState | None, after: StreamState | None) -> None:
        """A change that was counted was not kept."""
        self.total -= _growth(before, after)


def _growth(before: StreamState | None, after: StreamState | None) -> int:
    return (after.own_bytes if after else 0) - (before.own_bytes if before else 0)


class Batch:
    """Changes that are committed with one call; a refused request leaves no trace in it."""

    def __init__(
        self,
        known: Callable[[str, float], StreamState | None],
        limits: Limits,
        budget: MemoryBudget,
        now: float,
    ) -> None:
        """``known(name, now)`` gives the state that a stream is decided on."""
        self._known = known
        self._limits = limits
        self._budget = budget
        self._now = now
        self.payload_bytes = 0
        """Of all that has been accepted."""
        self._found: dict[str, StreamState | None] = {}
        """What every stream of the batch was before it."""
        self._changes: dict[str, Change] = {}

    def decide(self, request: Request) -> Outcome:
        """What becomes of ``request`` if the batch is kept; raises the ProtocolError that refuses it."""
        name = request.name
        change = self._changes.get(name)
        if change is not None:
            found = change.after
        elif name in self._found:
            found = self._found[name]
        else:
            found = self._found[name] = self._known(name, self._now)
        decision = decide(found, request, self._now, self._limits.stream_bytes_max)
        after = decision.state
        if after is found:
            return decision.outcome
        self._budget.add(found, after)
        self.payload_bytes += len(decision.data)
        if change is None:
            self._changes[name] = Change(found, after, [decision.data] if decision.data else [])
        else:
            _continue(change, after, decision.data)
        return decision.outcome

    def units(self) -> list[Unit]:
        """What is to be committed: a stream that came and went within the batch is no change."""
        return [(change,) for change in self._changes.values() if change.before or change.after]

    def rests_on(self) -> Mapping[str, StreamState | None]:
        """The states that answers rest on without a change that would confirm them."""
        changed = self._changes
        return {
            name: found
            for name, found in self._found.items()
            if name not in changed or not (changed[name].before or changed[name].after)
        }

    def roll_back(self, lost: Collection[str] | None = None) -> None:
        """Forget changes that were not kept: those of the streams ``lost``, or all. Their bytes are not held."""
        for name in list(self._changes) if lost is None else lost:
            change = self._changes.pop(name, None)
            if change is not None:
                self._budget.take_back(change.before, change.after)


def _continue(change: Change, after: StreamState | None, data: bytes) -> None:
    """Add one more step to the change of a stream."""
    pending = change.after
    if after is None or pending is None or after.config.uid != pending.config.uid:
        change.appended.clear()
    if data:
        change.appended.append(data)
    change.after = after
