"""What is done behind the requests to keep a shard's file small, and quick to open: deletions, indexes, packing.

Decides when; file_storage.py and packing.py know how.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from time import monotonic
from typing import Final

from durable_streams.storage.on_disk.background import Background, BackgroundStep
from durable_streams.storage.on_disk.room import Room
from durable_streams.storage.zodb.contents import write_index
from durable_streams.storage.zodb.file_storage import DELETED_AT_ONCE, ShardFileStorage
from durable_streams.storage.zodb.packing import Packing, PackStopped
from durable_streams.storage.zodb.snapshots import take_snapshot

FREEING_RETRY_S: Final = 5.0
STOP_GARBAGE_MIN: Final = 64 << 10
"""Bytes: for less a stop waits for no pack."""

log = logging.getLogger("durable_streams.storage")


@dataclass(frozen=True, slots=True)
class AcidTuning:
    """When it is time for what; tests use small values."""

    interval_s: float = 1.0
    """How often it is looked whether there is anything to do."""
    index_bytes: int = 64 << 20
    """The index is saved when the file has grown by this much: it bounds what opening has to read after a crash."""
    index_age_s: float = 300.0
    """... or has grown at all, and this time has passed."""
    pack_bytes: int = 64 << 20
    """A file of this size is packed ..."""
    pack_garbage: float = 0.5
    """... when this share of it has been replaced."""
    small_pack_bytes: int = 1 << 20
    """A file of this size is packed ..."""
    small_pack_garbage: float = 0.8
    """... when nearly all of it has been replaced."""
    stop_pack_bytes: int = 4 << 20
    """At a stop a file is packed when it is half garbage, and no more than this has to be copied."""
    retry_s: float = 60.0
    """How long to wait after something that failed."""


class ShardBackground:
    """The background work on one shard."""

    def __init__(self, storage: ShardFileStorage, tuning: AcidTuning, room: Room) -> None:
        self.storage = storage
        self._room = room
        self._tuning = tuning
        self._index_saved_at = monotonic()
        self._garbage_left: int | None = None
        """How much a full disk has been left with, when it was tried to free some of it."""
        self._packing: Packing | None = None
        self.packs = 0
        """How many have succeeded."""

    def work(self) -> None:
        """Do what it is time for."""
        storage = self.storage
        if len(storage.garbage.unneeded) > DELETED_AT_ONCE:
            # More than the next transaction will take with it.
            storage.delete_some()
        if self._wants_index():
            self.save_index()
        if self._wants_pack():
            self.pack()

    def _wants_pack(self) -> bool:
        tuning, size = self._tuning, self.storage.getSize()
        garbage = self.storage.garbage.bytes
        if size >= tuning.pack_bytes:
            return bool(garbage >= size * tuning.pack_garbage)
        return bool(size >= tuning.small_pack_bytes and garbage >= size * tuning.small_pack_garbage)

    def free_room(self) -> None:
        """While ordinary writes are refused: delete and pack at once; raises OSError when there is no room for that."""
        if self._room.look():
            return
        storage = self.storage
        while storage.garbage.unneeded:
            self._room.delete(storage.delete_some)
        if storage.garbage.bytes != self._garbage_left:
            self._garbage_left = storage.garbage.bytes
            # After a crash nobody knows how much is garbage, or has still to be deleted: it is looked for.
            self._room.free_up(lambda: self.pack(gc=True, free_bytes=self._room.room_for_freeing()))
            self._room.look()

    def _wants_index(self) -> bool:
        grown = self.storage.getSize() - self.storage.indexed_bytes
        is_old = monotonic() - self._index_saved_at >= self._tuning.index_age_s
        return grown >= self._tuning.index_bytes or (grown > 0 and is_old)

    def save_index(self) -> None:
        storage, shared = self.storage, self.storage.shared
        with storage.commits_held():
            data = shared.background.run(storage.encoded_index)
        shared.background.run(write_index, shared.disk, storage.getName(), data)
        self._index_saved_at = monotonic()

    def pack(self, *, gc: bool = False, free_bytes: int | None = None) -> None:
        """Now, whether or not it is time for it; ``Packing`` says what the arguments mean."""
        storage, began = self.storage, monotonic()
        size = storage.getSize()
        self._packing = Packing(storage, gc=gc, free_bytes=free_bytes)
        try:
            if self._packing.run():
                self.save_index()
                self.packs += 1
            elif free_bytes is None:
                storage.garbage.bytes = 0
        except PackStopped:
            return
        finally:
            self._packing = None
        seconds = monotonic() - began
        log.info(
            "%s packed from %d to %d bytes in %.1f s", storage.getName(), size, storage.getSize(), seconds
        )

    def compact(self) -> None:
        """Pack it now, and drop what nothing refers to."""
        storage, shared = self.storage, self.storage.shared
        # A damaged record could refer to other objects than it did, which would be taken for garbage.
        with closing(
            shared.background.run(take_snapshot, storage.getName(), storage.salt, shared.disk)
        ) as whole:
            whole.check()
        self._room.free_up(lambda: self.pack(gc=True))

    def stop_packing(self) -> None:
        """A pack that is running is given up."""
        if self._packing is not None:
            self._packing.stopping = True

    def step(self, work: Callable[[], None], retry_s: float | None = None) -> BackgroundStep:
        """A method of this object as something that may fail."""
        name = f"background work on {self.storage.getName()}"
        pause_s = self._tuning.retry_s if retry_s is None else retry_s
        return BackgroundStep(name, work, pause_s, lambda: self.storage.failed is not None)

    def finish(self) -> None:
        """Delete what is still to be deleted, before the storage is closed, and pack it where that is quick."""
        storage = self.storage
        while storage.garbage.unneeded:
            storage.delete_some()
        size, garbage = storage.getSize(), storage.garbage.bytes
        if garbage >= max(STOP_GARBAGE_MIN, size // 2) and size - garbage <= self._tuning.stop_pack_bytes:
            self.pack()


class AcidBackground(Background):
    """The background work on all shards of a storage, from its opening to ``stop``."""

    def __init__(self, storages: Sequence[ShardFileStorage], tuning: AcidTuning, room: Room) -> None:
        self.shards = [ShardBackground(storage, tuning, room) for storage in storages]
        steps = [shard.step(shard.work) for shard in self.shards]
        steps += [shard.step(shard.free_room, FREEING_RETRY_S) for shard in self.shards]
        super().__init__(steps, tuning.interval_s)

    def stop(self) -> None:
        """Wait for what is running, of which a pack is given up, and delete what is still to be deleted."""
        for shard in self.shards:
            shard.stop_packing()
        super().stop()
        for shard in self.shards:
            shard.step(shard.finish).run()
