"""Sliding windows that reads have touched since they were last recorded.

Recording every read would make a write of it. So the newest touch is kept here, and seen wherever the state is looked
at. It is recorded when it is an eighth of the window ahead of what is recorded, and so is the present while a live
reader is attached. After a crash a window is short by that eighth at the most. Other processes that share the storage
see recorded touches alone, so each of them allows for an eighth that it does not see.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from durable_streams.protocol.expiry import has_expired, unrecorded_s
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change

HELD_CHECK_S_MAX: Final = 60.0
"""The longest time between two checks of a held window; what its reader leaves behind is forgotten after it."""
FORGOTTEN_AT_ONCE: Final = 256


class Touches:
    """The newest touch of each stream that is ahead of what is recorded."""

    def __init__(self, shared: bool) -> None:
        """``shared``: other processes have touches of the same streams."""
        self._shared = shared
        self._touched: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """Name -> newest touch by a read (seconds since 1970), and the length of the window in seconds."""
        self._readers: Counter[str] = Counter()
        """Attached live readers by the name of their stream."""
        self._checks: list[tuple[float, str]] = []
        """A heap: when to check the windows that are held, or were a short time ago."""
        self._checked: set[str] = set()
        """The names in it."""

    def names(self) -> Sequence[str]:
        """The streams of which more is known here than is recorded."""
        return [*self._readers, *(name for name in self._touched if name not in self._readers)]

    def latest(self, name: str, now: float) -> float:
        """The newest touch that is known here, or 0.0; ``now`` while a live reader is attached."""
        if name in self._readers:
            return now
        touched = self._touched.get(name)
        # A clock that was set back must not make a window longer.
        return 0.0 if touched is None else min(touched[0], now)

    def see(self, recorded: StreamState, now: float, touched_at: float = 0.0) -> StreamState:
        """``recorded`` with its newest touch, be it one that another process may have and has not recorded.

        ``touched_at``: a touch that was known here a moment ago.
        """
        if recorded.config.expiry.ttl_s is None:
            # It has no window.
            return recorded
        touched_at = max(touched_at, recorded.touched_at)
        if self._touched or self._readers:
            touched_at = max(touched_at, self.latest(recorded.config.name, now))
        if self._shared and has_expired(recorded, now):
            unseen_s = unrecorded_s(recorded)
            if not has_expired(recorded, now - unseen_s):
                touched_at = max(touched_at, recorded.touched_at + unseen_s)
        # No successor: what is recorded is the same, and so is its revision.
        return replace(recorded, touched_at=touched_at) if touched_at > recorded.touched_at else recorded

    def touch(self, recorded: StreamState, now: float) -> bool:
        """A read at ``now``; True when it is far enough ahead to be recorded."""
        ttl_s = recorded.config.expiry.ttl_s
        if ttl_s is None:
            return False
        name = recorded.config.name
        self._touched[name] = max(self._touched.get(name, (0.0, 0))[0], now), ttl_s
        return is_ahead(recorded, now)

    def settle(self, change: Change) -> None:
        """Forget what ``change`` has recorded, or what concerned a stream that has gone."""
        touched = self._touched.get(change.name) if self._touched else None
        if touched is not None and (change.after is None or change.after.touched_at >= touched[0]):
            del self._touched[change.name]

    def forget(self, now: float) -> None:
        """Drop a part of the touches that lie a whole window back.

        Of a stream that another process has removed there is no change here that would settle them.
        """
        for _ in range(min(len(self._touched), FORGOTTEN_AT_ONCE)):
            name, (touched_at, ttl_s) = self._touched.popitem(last=False)
            if now < touched_at + ttl_s:
                self._touched[name] = touched_at, ttl_s

    # -- live readers --------------------------------------------------------------------------------------------

    def attach(self, state: StreamState, now: float) -> None:
        """A live reader holds the stream: its window does not run."""
        self._readers[state.config.name] += 1
        self.check_at(state.config.name, state.touched_at + unrecorded_s(state), now)

    def detach(self, name: str, recorded: StreamState | None, now: float) -> None:
        """A live reader has left; after the last one the window runs from ``now``, if the stream is still there."""
        self._readers[name] -= 1
        if not self._readers[name]:
            del self._readers[name]
            if recorded is not None:
                self.touch(recorded, now)

    def check_at(self, name: str, at: float, now: float) -> None:
        """Have ``due`` name a held stream at ``at``, if nothing else has been said before."""
        if name not in self._checked:
            self._checked.add(name)
            heapq.heappush(self._checks, (min(at, now + HELD_CHECK_S_MAX), name))

    def due(self, now: float, limit: int) -> list[str]:
        """Up to ``limit`` held streams whose time has come; each is named once, until the next ``check_at``."""
        found: list[str] = []
        while self._checks and self._checks[0][0] <= now and len(found) < limit:
            name = heapq.heappop(self._checks)[1]
            self._checked.discard(name)
            if name in self._readers:
                found.append(name)
        return found

    @property
    def next_check_at(self) -> float:
        """When ``due`` may name a stream next (seconds since 1970), or infinity."""
        return self._checks[0][0] if self._checks else math.inf


def is_ahead(recorded: StreamState, now: float) -> bool:
    """Whether a touch at ``now`` is so far ahead of ``recorded`` that it has to be recorded."""
    return now - recorded.touched_at >= unrecorded_s(recorded)
