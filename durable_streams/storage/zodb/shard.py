"""One shard: a ZODB database with its trees of names and deadlines, one connection that writes and one that reads.

Decides what a transaction of changes does to the objects, and which revision a reader sees. Which stream belongs to
which shard, and the directory, are left to others.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain, islice, takewhile
from time import monotonic
from typing import Any, Final, TypeVar

import transaction
from BTrees.OOBTree import OOBTree, OOTreeSet
from gevent.lock import RLock
from persistent import Persistent
from transaction.interfaces import AlreadyInTransaction
from ZODB.POSException import ConflictError, POSKeyError

from durable_streams.protocol.errors import StorageFull, StreamDamaged, StreamNotFound, Unavailable
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change, Unit, check_recorded
from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import says_full
from durable_streams.storage.zodb.database import MemoryShard, ShardDatabase
from durable_streams.storage.zodb.file_storage import ShardFileStorage
from durable_streams.storage.zodb.model import Head

log = logging.getLogger("durable_streams.storage")

READ_TRIES: Final = 5
APPLIED_AT_ONCE: Final = 64
DAMAGED_S: Final = 1.0
"""So long a stream that could not be changed is left alone; the disk may have refused one read and no more."""
DAMAGE: Final = (DirectoryDamaged, POSKeyError, pickle.UnpicklingError, EOFError, ValueError, OSError)
"""What reading a record can raise that is wrong."""
T = TypeVar("T")


class _Damaged(Exception):
    """A stream that a transaction has to leave out."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Shard:
    """One shard of the streams."""

    def __init__(
        self,
        storage: ShardFileStorage | MemoryShard,
        yield_to_loop: Callable[[], None],
        objects_max: int,
        bytes_max: int,
    ) -> None:
        """``objects_max``, ``bytes_max``: how much each of the two connections keeps in memory."""
        self.storage = storage
        self._yield_to_loop = yield_to_loop
        self._yield_reading = yield_to_loop if isinstance(storage, ShardFileStorage) else lambda: None
        """In memory a commit may take away what a reader that has yielded still needs."""
        self._db = ShardDatabase(storage, cache_size=objects_max, cache_size_bytes=bytes_max)
        self._manager = transaction.TransactionManager(explicit=True)
        self._writing = self._db.open(self._manager)
        self._begin()
        self._read_manager = transaction.TransactionManager()
        self._reading = self._db.open(self._read_manager)
        self._lock = RLock()
        """Held while the reading connection is used, should ever a greenlet have to wait in the middle."""
        self.commits = 0
        self._seen_commits = 0
        self._damaged: dict[str, tuple[float, str]] = {}
        """Streams that could be loaded, and not be changed: when to try again, and why not before."""

    def _begin(self) -> None:
        """See that the trees can be read, or plant them."""
        self._manager.begin()
        root = self._writing.root()
        if "streams" in root:
            for tree in (root["streams"], root["deadlines"]):
                tree._p_activate()
            self._manager.abort()
            return
        root["streams"] = OOBTree()
        root["deadlines"] = OOTreeSet()
        self._manager.commit()

    def close(self) -> None:
        # Closing the database aborts what its connections have begun, which an explicit manager must have.
        with suppress(AlreadyInTransaction):
            self._manager.begin()
        self._db.close()

    # -- reading -----------------------------------------------------------------------------------------------

    def _look(self, what: str, reader: Callable[[Any], T], tree: str = "streams") -> T:
        """What ``reader`` finds in a tree of the root, as the newest durable transaction has left it.

        Raises StreamDamaged, which says that ``what`` is.
        """
        with self._lock:
            for _ in range(READ_TRIES):
                if self._seen_commits != self.commits:
                    self._seen_commits = self.commits
                    self._read_manager.begin()
                try:
                    return reader(self._reading.root()[tree])
                except (ConflictError, POSKeyError) as exc:
                    # Packed away, or replaced since the connection took its view.
                    self._seen_commits = -1
                    error: Exception = exc
                except DAMAGE as exc:
                    error = exc
                    break
            raise StreamDamaged(f"{what}: {error!r}") from error

    def load(self, name: str) -> StreamState | None:
        """Raises StreamDamaged."""
        if name in self._damaged:
            try_again_at, reason = self._damaged[name]
            if monotonic() < try_again_at:
                raise StreamDamaged(reason)
            del self._damaged[name]

        def load(streams: OOBTree) -> StreamState | None:
            head = streams.get(name)
            return None if head is None else head.state(self._yield_reading)

        return self._look(f"stream {name!r}", load)

    def read(self, state: StreamState, start: int, stop: int) -> bytes:
        """Raises StreamNotFound or StreamDamaged."""
        name = state.config.name

        def read(streams: OOBTree) -> bytes:
            head = streams.get(name)
            if head is None or head.uid != state.config.uid:
                raise StreamNotFound(name)
            data: bytes = head.read(start, stop)
            if len(data) != stop - start:
                raise ValueError(f"{len(data)} bytes were found from position {start} to {stop}")
            return data

        return self._look(f"stream {name!r}", read)

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Raises StreamDamaged."""

        def names(streams: OOBTree) -> list[str]:
            keys = streams.keys(after, excludemin=True) if after >= prefix else streams.keys(prefix)
            return list(islice(takewhile(lambda name: name.startswith(prefix), keys), limit))

        # A look at every stream in turn shall not leave all of them in memory.
        self._reading.cacheGC()
        return self._look(f"the tree of streams of {self.storage.getName()}", names)

    def queued(self, after: tuple[float, str] | None, now: float, limit: int) -> list[tuple[float, str]]:
        """Up to ``limit`` entries of the tree of deadlines that come after ``after`` and are at or before ``now``.

        Raises StreamDamaged.
        """

        def queued(deadlines: OOTreeSet) -> list[tuple[float, str]]:
            entries = deadlines.keys(after, excludemin=True) if after else deadlines.keys()
            return list(islice(takewhile(lambda entry: entry[0] <= now, entries), limit))

        return self._look(f"the tree of deadlines of {self.storage.getName()}", queued, "deadlines")

    # -- changing ----------------------------------------------------------------------------------------------

    def commit(self, units: Sequence[Unit]) -> frozenset[str]:
        """One transaction of the units, but for those of streams that are found damaged, whose names it returns.

        Raises StorageFull or Unavailable when nothing was kept.
        """
        lost: frozenset[str] = frozenset()
        while units:
            try:
                self._commit(units)
                break
            except _Damaged as damaged:
                lost |= {damaged.name}
                units = [unit for unit in units if lost.isdisjoint(change.name for change in unit)]
        return lost

    def _commit(self, units: Sequence[Unit]) -> None:
        if self.storage.failed is not None:
            raise RuntimeError("the storage has failed") from self.storage.failed
        self._manager.begin()
        try:
            unneeded = self._apply_all(chain.from_iterable(units))
            self._manager.commit()
        except BaseException as exc:
            self._abort(exc)
            if isinstance(exc, OSError) and self.storage.failed is None:
                raise (StorageFull if says_full(exc) else Unavailable)(str(exc)) from exc
            raise
        self.commits += 1
        self.storage.delete_later(unneeded)

    def _abort(self, exc: BaseException) -> None:
        if not isinstance(exc, Exception):
            # A kill: a thread may still be writing, to where the next transaction would go.
            self.storage.failed = exc
        try:
            self._manager.abort()
        except Exception:
            log.exception("a transaction that failed with %r could not be aborted", exc)
            self.storage.failed = exc

    def _apply_all(self, changes: Iterable[Change]) -> list[bytes]:
        root = self._writing.root()
        streams, deadlines = root["streams"], root["deadlines"]
        unneeded: list[Persistent] = []
        for number, change in enumerate(changes, 1):
            try:
                unneeded += apply(streams, deadlines, change, self._yield_to_loop)
            except DAMAGE as exc:
                self._damaged[change.name] = monotonic() + DAMAGED_S, f"stream {change.name!r}: {exc!r}"
                raise _Damaged(change.name) from exc
            if number % APPLIED_AT_ONCE == 0:
                self._yield_to_loop()
        return [part._p_oid for part in unneeded if part._p_oid is not None]


def apply(
    streams: OOBTree, deadlines: OOTreeSet, change: Change, yield_to_loop: Callable[[], None] = lambda: None
) -> list[Persistent]:
    """Carry out ``change``; returns the objects that nothing refers to any more."""
    after, name = change.after, change.name
    head: Head | None = streams.get(name)
    check_recorded(head, change)
    unneeded: list[Persistent] = []
    if head is not None and (after is None or change.is_new):
        unneeded += head.parts()
        if head.queued_at is not None:
            deadlines.remove((head.queued_at, name))
        if after is None:
            del streams[name]
        head = None
    if after is None:
        return unneeded
    if head is None:
        head = streams[name] = Head(after)
    if change.appended:
        unneeded += head.append(change.appended)
    unneeded += head.record(after, change.entries, yield_to_loop)
    _queue(deadlines, head, after)
    return unneeded


def _queue(deadlines: OOTreeSet, head: Head, after: StreamState) -> None:
    """An entry that is too early stays until its time has come: most changes only move the deadline on."""
    due_at, queued_at = after.due_at, head.queued_at
    if queued_at is not None:
        if due_at is not None and after.touched_at < queued_at <= due_at:
            return
        deadlines.remove((queued_at, after.name))
    if due_at is not None:
        deadlines.insert((due_at, after.name))
    head.queued_at = due_at
