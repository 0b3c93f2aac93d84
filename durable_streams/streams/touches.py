"""Sliding windows that reads have renewed since they were last recorded.

Recording every read would make a write of it. So a touch is kept here, applied to the state wherever it is looked
at, and recorded when it has moved by an eighth of the window; after a crash a window can be short by that much.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change

RECORDED_PARTS: Final = 8


class Touches(Mapping[str, float]):
    """Name -> newest touch (seconds since 1970); for ever in the future while a live reader is attached."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._readers: Counter[str] = Counter()

    def __getitem__(self, name: str) -> float:
        return self._at[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)

    def get(self, name: str, default: float = 0.0) -> float:  # type: ignore[override]
        return self._at.get(name, default)

    def renew(self, recorded: StreamState, now: float) -> bool:
        """Note a read at ``now``; True when it is far enough from what is recorded to be recorded itself."""
        ttl_s = recorded.config.expiry.ttl_s
        if ttl_s is None:
            return False
        name = recorded.config.name
        self._at[name] = max(self._at.get(name, 0.0), now)
        return (now - recorded.touched_at) * RECORDED_PARTS >= ttl_s

    def attach(self, name: str) -> None:
        """A live reader holds the stream: its window does not run."""
        self._readers[name] += 1
        self._at[name] = math.inf

    def detach(self, name: str, recorded: StreamState | None, now: float) -> None:
        """A live reader has left; after the last one the window runs from ``now``, if the stream is still there."""
        self._readers[name] -= 1
        if self._readers[name] > 0:
            return
        del self._readers[name]
        if recorded is None:
            del self._at[name]
        else:
            self._at[name] = now

    def settle(self, change: Change) -> None:
        """Forget what ``change`` has recorded, or what concerned a stream that has gone."""
        if not self._at:
            return
        after, name = change.after, change.name
        if name not in self._readers and (after is None or after.touched_at >= self._at.get(name, 0.0)):
            self._at.pop(name, None)
