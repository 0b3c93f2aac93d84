"""What is done behind the requests to keep a shard's file small, and quick to open: deletions, indexes, packing.

Decides when; file_storage.py and packing.py know how.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from durable_streams.storage.on_disk.background import Background, BackgroundStep
from durable_streams.storage.zodb.file_storage import DELETED_AT_ONCE, ShardFileStorage
from durable_streams.storage.zodb.packing import Packing, PackStopped, pack
from durable_streams.storage.zodb.shared import SharedByShards

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
    """A smaller file is not packed."""
    pack_garbage: float = 0.5
    """A file is packed when this share of it has been replaced."""
    retry_s: float = 60.0
    """How long to wait after something that failed."""


class ShardBackground:
    """The background work on one shard."""

    def __init__(self, storage: ShardFileStorage, shared: SharedByShards, tuning: AcidTuning) -> None:
        self.storage = storage
        self._shared = shared
        self._tuning = tuning
        self._index_saved_at = monotonic()
        self._packing: Packing | None = None

    def work(self) -> None:
        """Do what it is time for."""
        storage = self.storage
        if len(storage.garbage.unneeded) > DELETED_AT_ONCE:
            # More than the next transaction will take with it.
            storage.delete_some()
        if self._wants_index():
            self.save_index()
        size = storage.getSize()
        if size >= self._tuning.pack_bytes and storage.garbage.bytes >= size * self._tuning.pack_garbage:
            self.pack()

    def _wants_index(self) -> bool:
        grown = self.storage.getSize() - self.storage.indexed_bytes
        is_old = monotonic() - self._index_saved_at >= self._tuning.index_age_s
        return grown >= self._tuning.index_bytes or (grown > 0 and is_old)

    def save_index(self) -> None:
        run = self._shared.background.run
        with self.storage.commits_held():
            data = run(self.storage.encoded_index)
        run(self.storage.write_index, data)
        self._index_saved_at = monotonic()

    def pack(self) -> None:
        """Now, whether or not it is time for it."""
        storage, began = self.storage, monotonic()
        size = storage.getSize()
        self._packing = Packing(storage, self._shared.disk, gc=False)
        try:
            if pack(storage, self._shared, self._packing):
                self.save_index()
            else:
                storage.garbage.bytes = 0
        except PackStopped:
            return
        finally:
            self._packing = None
        seconds = monotonic() - began
        log.info(
            "%s packed from %d to %d bytes in %.1f s", storage.getName(), size, storage.getSize(), seconds
        )

    def stop_packing(self) -> None:
        """A pack that is running is given up."""
        if self._packing is not None:
            self._packing.stopping = True

    def step(self, work: Callable[[], None]) -> BackgroundStep:
        """A method of this object as something that may fail."""
        name = f"background work on {self.storage.getName()}"
        return BackgroundStep(name, work, self._tuning.retry_s, lambda: self.storage.failed is not None)

    def finish(self) -> None:
        """Delete what is still to be deleted, before the storage is closed."""
        while self.storage.garbage.unneeded:
            self.storage.delete_some()


class AcidBackground:
    """The background work on all shards of a storage, from its opening to ``stop``."""

    def __init__(
        self, storages: Sequence[ShardFileStorage], shared: SharedByShards, tuning: AcidTuning
    ) -> None:
        self.shards = [ShardBackground(storage, shared, tuning) for storage in storages]
        self._loop = Background([shard.step(shard.work) for shard in self.shards], tuning.interval_s)

    def stop(self) -> None:
        """Wait for what is running, of which a pack is given up, and delete what is still to be deleted."""
        for shard in self.shards:
            shard.stop_packing()
        self._loop.stop()
        for shard in self.shards:
            shard.step(shard.finish).run()
