"""A storage that several processes share, without processes: one database in memory and a cache for each opener.

It does what a database server does, as slowly as it may: every question and every commit lets others go first, what one
opener commits the other learns only by asking or by losing, and a state is only as true as its mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from zlib import crc32

import gevent

from durable_streams.protocol.errors import StreamNotFound
from durable_streams.protocol.expiry import swept_at
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change, Found, Lost, Storage, Unit
from durable_streams.storage.rows import from_row, to_row


class Database:
    """What is recorded: rows with their marks, and own bytes by uid."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[tuple[object, ...], object]] = {}
        self._bytes: dict[str, bytes] = {}

    def state(self, name: str) -> StreamState | None:
        """A copy of its own for everybody who asks."""
        if name not in self._rows:
            return None
        row, mark = self._rows[name]
        state = from_row(row)
        state.mark = mark
        return state

    def names(self) -> list[str]:
        return sorted(self._rows)

    def read(self, uid: str) -> bytes | None:
        return self._bytes.get(uid)

    def is_recorded(self, name: str, state: StreamState | None) -> bool:
        recorded = self._rows.get(name)
        return (recorded and recorded[1]) is (state and state.mark)

    def record(self, change: Change) -> None:
        before, after = change.before, change.after
        if before is not None and (after is None or change.is_new):
            del self._rows[before.name], self._bytes[before.config.uid]
        if after is not None:
            after.mark = object()
            self._rows[after.name] = to_row(after), after.mark
            held = self._bytes.get(after.config.uid, b"")
            self._bytes[after.config.uid] = held + b"".join(change.appended)


class SharedStorage(Storage):
    """One process's way to a database."""

    mode = "shared"
    guarantee = "everybody who shares the database sees it, and nothing survives the tests"
    shared = True
    shards = 2

    def __init__(self, database: Database | None = None) -> None:
        self.database = database or Database()
        self.before_commit: Callable[[], object] = lambda: None
        """Called when the database has got a commit and has not begun with it."""
        self.questions: list[list[str]] = []
        """The names of every ``find``."""
        self.losses = 0
        """How many commits have lost something."""
        self._cache: dict[str, StreamState | None] = {}

    def open(self) -> None:
        self._cache.clear()

    def close(self) -> None:
        """Others may go on with the database."""

    def shard_of(self, name: str) -> int:
        return crc32(name.encode()) % self.shards

    def joins(self, fork: str, source: str) -> bool:
        """One statement can change any two rows."""
        return True

    def known(self, name: str) -> StreamState | None:
        return self._cache.get(name)

    def find(self, names: Iterable[str]) -> Mapping[str, Found]:
        asked = list(names)
        self.questions.append(asked)
        gevent.sleep(0)
        found = {name: self.database.state(name) for name in asked}
        self._cache.update(found)
        return dict(found)

    def read(self, state: StreamState, start: int, stop: int) -> bytes:
        gevent.sleep(0)
        own = self.database.read(state.config.uid)
        if own is None:
            raise StreamNotFound(state.name)
        return own[start - state.config.forked_at : stop - state.config.forked_at]

    def commit(self, shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]) -> Lost:
        check_commit(self, shard, units, rests_on)
        gevent.sleep(0)
        self.before_commit()
        lost = {name for name, state in rests_on.items() if not self.database.is_recorded(name, state)}
        for unit in units:
            lost_here = {
                change.name for change in unit if not self.database.is_recorded(change.name, change.before)
            }
            lost |= lost_here
            for change in () if lost_here else unit:
                self.database.record(change)
                self._cache[change.name] = change.after
        for name in lost:
            self._cache[name] = self.database.state(name)
        self.losses += bool(lost)
        gevent.sleep(0)
        return lost

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        matching = [name for name in self.database.names() if name.startswith(prefix)]
        return [name for name in matching if name > after or not after][:limit]

    def due(self, now: float, limit: int) -> list[str]:
        states = [state for state in map(self.database.state, self.database.names()) if state is not None]
        return [state.name for state in states if _is_due(state, now)][:limit]


def _is_due(state: StreamState, now: float) -> bool:
    at = swept_at(state)
    return at is not None and at <= now


def check_commit(
    storage: Storage, shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]
) -> None:
    """What the contract asks of the caller of ``commit``."""
    changes = [change for unit in units for change in unit]
    names = [change.name for change in changes] + list(rests_on)
    assert len(set(names)) == len(names)
    for unit in units:
        assert unit
        assert shard in {storage.shard_of(change.name) for change in unit}
    assert not units or not rests_on or shard in {storage.shard_of(name) for name in names}
    for change in changes:
        if change.after is not None:
            assert set(changed_entries(change.before, change.after)) <= set(change.entries)


def changed_entries(before: StreamState | None, after: StreamState) -> tuple[str, ...]:
    """What ``Change.entries`` has to name, found by comparing everything."""
    if before is None or before.config.uid != after.config.uid:
        return ()
    found: set[str] = set()
    for old, new in ((before.producers, after.producers), (before.forks, after.forks)):
        found |= {key for key in {*old, *new} if old.get(key) is not new.get(key)}
    return tuple(sorted(found))
