"""A storage that fails on purpose: at the n-th call of a primitive, or whenever a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from durable_streams.protocol.errors import StreamDamaged
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Found, Lost, Storage, Unit


class FaultyStorage(Storage):
    """``storage``, whose primitives raise what ``fault`` returns for them before they do anything."""

    def __init__(self, storage: Storage, fault: Callable[[str, int], Exception | None]) -> None:
        """``fault(primitive, n)`` is asked at the n-th call (from 1) of all primitives together."""
        self.inner = storage
        self.fault = fault
        self.calls = 0
        self.damaged: set[str] = set()
        """Names whose states cannot be told."""
        self.shards = storage.shards
        self.commits_inline = storage.commits_inline
        self.shared = storage.shared
        self.counts_as_memory = storage.counts_as_memory

    def _call(self, primitive: str) -> None:
        self.calls += 1
        error = self.fault(primitive, self.calls)
        if error is not None:
            raise error

    @property
    def failed(self) -> bool:
        return self.inner.failed

    def open(self) -> None:
        self.inner.open()

    def close(self) -> None:
        self.inner.close()

    def shard_of(self, name: str) -> int:
        return self.inner.shard_of(name)

    def known(self, name: str) -> StreamState | None:
        self._call("known")
        if name in self.damaged:
            raise StreamDamaged(f"stream {name!r} is damaged on purpose")
        return self.inner.known(name)

    def find(self, names: Iterable[str]) -> Mapping[str, Found]:
        if not self.shared:
            return super().find(names)
        asked = list(names)
        try:
            self._call("find")
        except StreamDamaged as damage:
            # Told of each stream, and not raised: the others must not suffer.
            return dict.fromkeys(asked, damage)
        found = dict(self.inner.find(asked))
        damaged = {
            name: StreamDamaged(f"stream {name!r} is damaged on purpose")
            for name in self.damaged & found.keys()
        }
        return found | damaged

    def read(self, state: StreamState, start: int, stop: int) -> bytes:
        self._call("read")
        return self.inner.read(state, start, stop)

    def commit(self, shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]) -> Lost:
        self._call("commit")
        return self.inner.commit(shard, units, rests_on)

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        self._call("names")
        return self.inner.names(prefix, after, limit)

    def due(self, now: float, limit: int) -> list[str]:
        self._call("due")
        return self.inner.due(now, limit)
