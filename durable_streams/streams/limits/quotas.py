"""What the streams of a prefix hold together, against their quotas.

Counted when the storage is opened, and then with every change, so a quota is never exceeded, whatever comes at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from durable_streams.protocol.errors import LimitReached, ProtocolError, QuotaReached
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Storage
from durable_streams.streams.budget import MemoryBudget
from durable_streams.streams.limits.prefixes import PrefixRules

NAMES_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Quota:
    """0 is no limit."""

    prefix: str
    bytes_max: int = 0
    streams_max: int = 0


class QuotaUse:
    """A quota and what is used of it, changes of pending batches included."""

    __slots__ = ("bytes", "quota", "streams")

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.bytes = 0
        self.streams = 0

    def check(self, growth: int, more: int) -> None:
        """Raise QuotaReached or LimitReached where so many more bytes or streams are too many."""
        quota = self.quota
        if growth > 0 and quota.bytes_max and self.bytes + growth > quota.bytes_max:
            raise QuotaReached(quota.prefix, quota.bytes_max)
        if more > 0 and quota.streams_max and self.streams >= quota.streams_max:
            raise LimitReached(f"quotas.by_prefix: max_streams of {quota.prefix!r}", quota.streams_max)


class StoredQuotas:
    """The quotas of one storage."""

    def __init__(self, quotas: Iterable[Quota]) -> None:
        self.uses = [QuotaUse(quota) for quota in quotas]
        self._of = PrefixRules((use.quota.prefix, use) for use in self.uses).all_of

    def begin(self, storage: Storage) -> None:
        """Count what is there; the storage is open."""
        for use in self.uses:
            use.bytes = use.streams = 0
        after = ""
        while names := storage.names("", after, NAMES_AT_ONCE):
            after = names[-1]
            for state in storage.find([name for name in names if self._of(name)]).values():
                # A damaged stream is counted by nobody.
                if isinstance(state, StreamState):
                    self.add(None, state, state.own_bytes, is_limited=False)

    def add(
        self, before: StreamState | None, after: StreamState | None, growth: int, *, is_limited: bool = True
    ) -> None:
        """Count a change of one stream by ``growth`` bytes; raises as ``QuotaUse.check``, and counts nothing then."""
        state = after or before
        uses = self._of(state.name) if state is not None else ()
        more = (after is not None) - (before is not None)
        if is_limited:
            for use in uses:
                use.check(growth, more)
        for use in uses:
            use.bytes += growth
            use.streams += more


class QuotaBudget(MemoryBudget):
    """The limits of the whole store, and the quotas of prefixes; of a storage that one process owns."""

    def __init__(self, limit: int, streams_max: int, quotas: StoredQuotas) -> None:
        super().__init__(limit, streams_max)
        self.quotas = quotas

    def count_streams(self, storage: Storage) -> None:
        super().count_streams(storage)
        self.quotas.begin(storage)

    def add(self, before: StreamState | None, after: StreamState | None, entries: tuple[str, ...]) -> None:
        growth = _payload_growth(before, after)
        self.quotas.add(before, after, growth)
        try:
            super().add(before, after, entries)
        except ProtocolError:
            self.quotas.add(after, before, -growth, is_limited=False)
            raise

    def take_back(
        self, before: StreamState | None, after: StreamState | None, entries: tuple[str, ...]
    ) -> None:
        super().take_back(before, after, entries)
        self.quotas.add(after, before, -_payload_growth(before, after), is_limited=False)


def _payload_growth(before: StreamState | None, after: StreamState | None) -> int:
    return (after.own_bytes if after else 0) - (before.own_bytes if before else 0)
