"""One batch: requests decided against the pending state of their streams, and what they change together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.outcomes import Decision, Done, Outcome, Removed, SourceStep
from durable_streams.protocol.requests import UNLIMITED, RemoveFork, Request, StreamLimits
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change, Storage, Unit
from durable_streams.streams.budget import MemoryBudget
from durable_streams.streams.deciding import decide
from durable_streams.streams.limits.prefixes import PrefixRules
from durable_streams.streams.limits.quotas import Quota, QuotaBudget, StoredQuotas


class Limits:
    """The limits of a store. 0 means no limit, except for waiting writes."""

    def __init__(
        self,
        stream_bytes_max: int = 0,
        memory_bytes_max: int = 0,
        pending_writes_max: int = 100_000,
        messages_max: int = 0,
        streams_max: int = 0,
        of_stream: StreamLimits = UNLIMITED,
        by_prefix: Mapping[str, StreamLimits] = MappingProxyType({}),
        quotas: Sequence[Quota] = (),
    ) -> None:
        """``messages_max``: JSON messages in one request. ``stream_bytes_max`` is ``bytes_max`` of ``of_stream``.

        ``by_prefix``: takes the place of ``of_stream`` for the names that begin so, the longest before the others.
        """
        self.of_stream = replace(of_stream, bytes_max=stream_bytes_max or of_stream.bytes_max)
        self.streams_max = streams_max
        self.memory_bytes_max = memory_bytes_max
        self.pending_writes_max = pending_writes_max
        self.messages_max = messages_max
        self.quotas = quotas
        self.by_prefix = PrefixRules(by_prefix.items()).all_of if by_prefix else None

    def of(self, name: str) -> StreamLimits:
        """The limits of one stream; ``of_stream`` where there is nothing ``by_prefix``."""
        found = self.by_prefix(name) if self.by_prefix is not None else ()
        return found[0] if found else self.of_stream


def budget_of(storage: Storage, limits: Limits) -> MemoryBudget:
    """The budget of a storage that is not open yet."""
    bytes_max = limits.memory_bytes_max if storage.counts_as_memory else 0
    if limits.quotas and not storage.shared:
        return QuotaBudget(bytes_max, limits.streams_max, StoredQuotas(limits.quotas))
    return MemoryBudget(bytes_max, limits.streams_max)


class _Step(NamedTuple):
    """What was decided on one stream."""

    name: str
    found: StreamState | None
    decision: Decision


class Batch:
    """Changes that are committed with one call; a refused request leaves no trace in it.

    What a request entails at other streams (``Decision.then``) becomes one unit with it, as far as the storage joins
    the two.
    """

    def __init__(
        self,
        known: Callable[[str, float], StreamState | None],
        joins: Callable[[str, str], bool],
        limits: Limits,
        budget: MemoryBudget,
        now: float,
    ) -> None:
        """``known(name, now)`` gives the state that a stream is decided on; ``joins`` as ``Storage.joins``."""
        self._known = known
        self._joins = joins
        self._limits = limits
        self._budget = budget
        self._now = now
        self.payload_bytes = 0
        """Of all that has been accepted."""
        self._found: dict[str, StreamState | None] = {}
        """What every stream of the batch was before it."""
        self._changes: dict[str, Change] = {}
        self._unit_of: dict[str, set[str]] = {}
        """The names of a unit of several streams, under each of them."""

    def decide(self, request: Request) -> Outcome:
        """What becomes of ``request`` if the batch is kept; raises the ProtocolError that refuses it."""
        found, decision = self._decide(request)
        if decision.then is not None:
            return self._decide_unit(_Step(request.name, found, decision), decision.then)
        self._take(request.name, found, decision)
        return decision.outcome

    def _decide(self, request: Request) -> tuple[StreamState | None, Decision]:
        """The state that ``request`` meets, and what it makes of it; nothing is taken into the batch."""
        name = request.name
        change = self._changes.get(name)
        if change is not None:
            found = change.after
        elif name in self._found:
            found = self._found[name]
        else:
            found = self._found[name] = self._known(name, self._now)
        limits = self._limits
        of_stream = limits.of_stream if limits.by_prefix is None else limits.of(name)
        return found, decide(found, request, self._now, of_stream)

    def _take(self, name: str, found: StreamState | None, decision: Decision) -> None:
        """Raises TooLarge, and changes nothing, when there is no room for the bytes."""
        after, data = decision.state, decision.data
        if after is found:
            return
        self._budget.add(found, after, decision.entries)
        self.payload_bytes += len(data)
        change = self._changes.get(name)
        if change is None:
            self._changes[name] = Change(found, after, [data] if data else [], decision.entries)
        else:
            _continue(change, decision)

    # -- units -----------------------------------------------------------------------------------------------

    def _decide_unit(self, first: _Step, then: SourceStep) -> Outcome:
        steps = [first]
        left = self._add_joined(steps, then)
        for step in steps:
            self._take(*step)
        outcome = first.decision.outcome
        return _with_rest(outcome, steps[-1], left) if isinstance(outcome, Removed) else outcome

    def _add_joined(self, steps: list[_Step], then: SourceStep | None) -> SourceStep | None:
        """Decide what can be one unit with the first of ``steps``; returns what is left to be done by itself."""
        name = steps[0].name
        while then is not None and self._joins(name, then.name):
            try:
                step = _Step(then.name, *self._decide(then))
            except ProtocolError:
                # The refusal rests on both.
                self._unite(name, then.name)
                raise
            if step.decision.state is step.found:
                # No change would confirm, with the unit, what this rests on.
                break
            self._unite(name, then.name)
            steps.append(step)
            then = step.decision.then
        return then

    def _unite(self, one: str, other: str) -> None:
        """From now on these two, and what is united with them, stand or fall together, their refusals too."""
        united = self._unit_of.get(one, {one}) | self._unit_of.get(other, {other})
        for name in united:
            self._unit_of[name] = united

    def units(self) -> list[Unit]:
        """What is to be committed: a stream that came and went within the batch is no change."""
        changes = [change for change in self._changes.values() if change.before or change.after]
        if not self._unit_of:
            return [(change,) for change in changes]
        units: dict[int | str, list[Change]] = {}
        for change in changes:
            united = self._unit_of.get(change.name)
            units.setdefault(change.name if united is None else id(united), []).append(change)
        return [tuple(unit) for unit in units.values()]

    def with_units(self, names: Collection[str]) -> Collection[str]:
        """``names``, and everything that is united with one of them."""
        return set(names).union(*(self._unit_of.get(name, ()) for name in names))

    def rests_on(self) -> Mapping[str, StreamState | None]:
        """The states that answers rest on without a change that would confirm them."""
        changed = self._changes
        return {
            name: found
            for name, found in self._found.items()
            if name not in changed or not (changed[name].before or changed[name].after)
        }

    def roll_back(self, lost: Collection[str] | None = None) -> None:
        """Forget changes that were not kept: those of the streams ``lost``, or all. Their bytes are not held.

        ``lost`` has whole units.
        """
        for name in list(self._changes) if lost is None else lost:
            change = self._changes.pop(name, None)
            if change is not None:
                self._budget.take_back(change.before, change.after, change.entries)


def _continue(change: Change, decision: Decision) -> None:
    """Add one more step to the change of a stream."""
    pending, after = change.after, decision.state
    if after is None or pending is None or after.config.uid != pending.config.uid:
        change.appended.clear()
    if decision.data:
        change.appended.append(decision.data)
    if decision.entries:
        change.entries += decision.entries
    change.after = after


def _with_rest(outcome: Removed, last: _Step, then: SourceStep | None) -> Removed:
    """The outcome of a removal, with what is left to be done, and the source that was released last."""
    done = last.decision.outcome
    released = done.state if isinstance(done, Done) else None
    return replace(outcome, released=released, then=then if isinstance(then, RemoveFork) else None)
