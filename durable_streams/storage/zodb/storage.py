"""AcidStorage: the ``acid`` mode, streams in one ZODB database a shard.

Decides which shard a stream belongs to, and keeps decoded states in memory; a shard does the rest.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import gevent

from durable_streams.protocol.errors import StreamDamaged, Unavailable
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change, Lost, Unit
from durable_streams.storage.deadlines import Deadlines
from durable_streams.storage.on_disk.directory import own
from durable_streams.storage.on_disk.disk import Disk
from durable_streams.storage.on_disk.room import NoLimit, Room, RoomLimits
from durable_streams.storage.on_disk.storage import DiskStorage
from durable_streams.storage.state_cache import StateCache
from durable_streams.storage.zodb.background import AcidBackground, AcidTuning
from durable_streams.storage.zodb.database import MemoryShard
from durable_streams.storage.zodb.file_storage import ShardFileStorage, SharedByShards
from durable_streams.storage.zodb.opening import (
    lock_of,
    make_root,
    open_file,
    prepare,
    root_of,
    shard_of,
)
from durable_streams.storage.zodb.shard import Shard

log = logging.getLogger("durable_streams.storage")

STATES_KEPT: Final = 100_000
OBJECTS_KEPT: Final = 20_000
BYTES_KEPT: Final = 64 << 20
"""Of each kind of connection, over all shards."""
SCANNED_AT_ONCE: Final = 64

Backend = Literal["file", "in-memory"]


class AcidStorage(DiskStorage):
    """Streams in ``shard_count`` databases, owned by one process."""

    def __init__(
        self,
        data_dir: Path | str | None,
        shard_count: int = 1,
        backend: Backend = "file",
        *,
        disk: Disk | None = None,
        tuning: AcidTuning | None = None,
        room: RoomLimits | None = None,
    ) -> None:
        """Nothing is touched before ``open``; ``data_dir`` is for the backend ``file`` alone."""
        if backend == "file" and data_dir is None:
            raise ValueError("the acid backend 'file' needs a data directory")
        disk = disk or Disk()
        self._data_dir = Path(data_dir) if backend == "file" and data_dir is not None else None
        limits = room or RoomLimits()
        super().__init__(disk, Room(disk, root_of(self._data_dir), limits) if self._data_dir else NoLimit())
        self.shards = shard_count
        self.counts_as_memory = backend == "in-memory"
        self._tuning = tuning or AcidTuning()
        self._states = StateCache(STATES_KEPT)
        self._shards: list[Shard] = []
        self._deadlines = Deadlines()
        """Of the streams whose entry in the tree of deadlines has been passed."""
        self._passed: list[tuple[float, str] | None] = []
        """A shard's newest entry that has been passed."""

    # -- opening and closing -------------------------------------------------------------------------------------

    def _open(self, resources: ExitStack) -> None:
        shared = SharedByShards(self._disk, self.shards)
        resources.callback(shared.close)
        self._shards = []
        for storage in self._storages(shared, resources):
            self._shards.append(self._shard(storage, shared))
            resources.callback(self._shards[-1].close)
        self._states.clear()
        self._deadlines = Deadlines()
        self._passed = [None] * self.shards
        files = [shard.storage for shard in self._shards if isinstance(shard.storage, ShardFileStorage)]
        self._background = AcidBackground(files, self._tuning, self._room)

    def _storages(
        self, shared: SharedByShards, resources: ExitStack
    ) -> Iterator[ShardFileStorage | MemoryShard]:
        if self._data_dir is None:
            yield from (MemoryShard() for _ in range(self.shards))
            return
        make_root(self._data_dir, self._disk)
        resources.callback(os.close, own(self._data_dir, lock_of(self._data_dir)))
        layout = prepare(self._data_dir, self.shards, self._disk)
        self._room.open()
        for number in range(self.shards):
            yield open_file(layout, number, shared)

    def _shard(self, storage: ShardFileStorage | MemoryShard, shared: SharedByShards) -> Shard:
        try:
            return Shard(
                storage,
                shared.committing.yield_to_loop,
                objects_max=max(400, OBJECTS_KEPT // self.shards),
                bytes_max=BYTES_KEPT // self.shards,
            )
        except BaseException:
            storage.close()
            raise

    def _stop(self) -> None:
        self._background.stop()

    def compact(self) -> None:
        """Pack every shard, and drop what nothing refers to."""
        for shard in self._background.shards:
            shard.compact()

    @property
    def failed(self) -> bool:
        """Whether it is unknown what the disk holds of a shard, so that nothing more is written to that one."""
        return any(shard.storage.failed is not None for shard in self._shards)

    # -- looking -------------------------------------------------------------------------------------------------

    def shard_of(self, name: str) -> int:
        return shard_of(name, self.shards)

    def known(self, name: str) -> StreamState | None:
        state = self._states.get(name)
        if state is None:
            shard = self._shards[self.shard_of(name)]
            commits = shard.commits
            state = shard.load(name)
            if shard.commits == commits:
                self._states.put(name, state)
        return state

    def read(self, state: StreamState, start: int, stop: int) -> bytes:
        return self._shards[self.shard_of(state.config.name)].read(state, start, stop)

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        found = [shard.names(prefix, after, limit) for shard in self._shards]
        return list(islice(merge(*found), limit))

    def due(self, now: float, limit: int) -> list[str]:
        for number in range(self.shards):
            try:
                self._pass_deadlines(number, now)
            except StreamDamaged:
                log.exception("streams of shard %d cannot expire", number)
        return self._deadlines.due(now, limit, self._load_whole)

    def _pass_deadlines(self, number: int, now: float) -> None:
        """Put the streams into memory whose entries in the tree say that they may be due by now."""
        shard = self._shards[number]
        while entries := shard.queued(self._passed[number], now, SCANNED_AT_ONCE):
            self._passed[number] = entries[-1]
            for _, name in entries:
                state = self._load_whole(name)
                if state is not None:
                    self._deadlines.note(state)
            gevent.sleep(0)

    def _load_whole(self, name: str) -> StreamState | None:
        try:
            return self.known(name)
        except StreamDamaged:
            log.exception("stream %r is damaged, so it does not expire", name)
            return None

    def figures(self) -> Mapping[str, float]:
        """Without the number of streams, for which every page of their tree would have to be read."""
        behind = self._background
        return {
            "database_bytes": sum(shard.storage.getSize() for shard in behind.shards),
            "garbage_bytes": sum(shard.storage.garbage.bytes for shard in behind.shards),
            "compactions": sum(shard.packs for shard in behind.shards),
            "background_failures": behind.failures,
        }

    # -- changing ------------------------------------------------------------------------------------------------

    def commit(self, shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]) -> Lost:
        """Raises StorageFull or Unavailable when nothing was kept; loses the units of streams that are damaged."""
        if self._resources is None:
            raise Unavailable("the storage is not open")
        changes = [change for unit in units for change in unit]
        lost = self._room.commit(changes, lambda: self._shards[shard].commit(units))
        for unit in units:
            if not lost or lost.isdisjoint(change.name for change in unit):
                for change in unit:
                    self._has_changed(shard, change)
        for name in lost:
            self._states.put(name, None)
        return lost

    def _has_changed(self, shard: int, change: Change) -> None:
        state, passed = change.after, self._passed[shard]
        self._states.put(change.name, state)
        due_at = None if state is None else state.due_at
        if state is not None and passed is not None and due_at is not None and due_at <= passed[0]:
            self._deadlines.note(state)
