"""The greenlet that keeps the files of an open storage small, and quick to open: deletions, indexes, packing.

Decides when; committing.py and packing.py know how. One shard is looked after at a time, and a step that fails is tried
again later: nothing that was promised depends on it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import gevent
from gevent.event import Event

from durable_streams.eventloop.threads import Threads, waiting_is_safe
from durable_streams.storage.on_disk.disk import Disk
from durable_streams.storage.zodb.committing import EarlyFS
from durable_streams.storage.zodb.packing import Copying, PackStopped, pack

log = logging.getLogger("durable_streams.storage")


@dataclass(frozen=True, slots=True)
class Tuning:
    """When it is time for what; tests use small values."""

    interval_s: float = 1.0
    """How often the keeper looks."""
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


class Care:
    """What is remembered of one shard."""

    def __init__(self, storage: EarlyFS) -> None:
        self.storage = storage
        self.index_saved_at = monotonic()
        self.not_before = 0.0


class Keeper:
    """Runs from ``start`` to ``stop``."""

    def __init__(self, storages: Sequence[EarlyFS], disk: Disk, tuning: Tuning) -> None:
        self._cares = [Care(storage) for storage in storages]
        self._disk = disk
        self._tuning = tuning
        self._threads = Threads(1, beside_loop=waiting_is_safe())
        self._stopping = Event()
        self._copying: Copying | None = None
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Wait for the step that is being done; a pack is given up."""
        self._stopping.set()
        if self._copying is not None:
            self._copying.stopping = True
        self._greenlet.join()
        for care in self._cares:
            self._guarded(care, self._finish)
        self._threads.close()

    def _run(self) -> None:
        while not self._stopping.wait(self._tuning.interval_s):
            for care in self._cares:
                if care.storage.failed is None and monotonic() >= care.not_before:
                    self._guarded(care, self._look_after)

    def _guarded(self, care: Care, step: Callable[[Care], None]) -> None:
        try:
            step(care)
        except PackStopped:
            pass
        except Exception as exc:
            care.not_before = monotonic() + self._tuning.retry_s
            level = logging.CRITICAL if care.storage.failed else logging.ERROR
            log.log(level, "maintenance of %s has failed: %s", care.storage.getName(), exc, exc_info=exc)

    def _look_after(self, care: Care) -> None:
        storage = care.storage
        if storage.has_many_deletions:
            storage.delete_some()
        if self._wants_index(care):
            self.save_index(care)
        size = storage.getSize()
        if size >= self._tuning.pack_bytes and storage.garbage_bytes >= size * self._tuning.pack_garbage:
            self.pack(care)

    def _wants_index(self, care: Care) -> bool:
        grown = care.storage.getSize() - care.storage.indexed_bytes
        is_old = monotonic() - care.index_saved_at >= self._tuning.index_age_s
        return grown >= self._tuning.index_bytes or (grown > 0 and is_old)

    def pack_all(self) -> None:
        """Now, whether or not it is time for it."""
        for care in self._cares:
            self.pack(care)

    def save_index(self, care: Care) -> None:
        storage = care.storage
        with storage.commits_held():
            data = self._threads.run(storage.pickled_index)
        self._threads.run(storage.write_index, data)
        care.index_saved_at = monotonic()

    def pack(self, care: Care) -> None:
        storage, began = care.storage, monotonic()
        size = storage.getSize()
        self._copying = Copying(storage, self._disk, gc=False)
        try:
            if pack(storage, self._disk, self._threads, self._copying):
                self.save_index(care)
            else:
                storage.garbage_bytes = 0
        finally:
            self._copying = None
        seconds = monotonic() - began
        log.info(
            "%s packed from %d to %d bytes in %.1f s", storage.getName(), size, storage.getSize(), seconds
        )

    @staticmethod
    def _finish(care: Care) -> None:
        storage = care.storage
        if storage.failed is None:
            while storage.has_deletions:
                storage.delete_some()


def remove_remains(path: str, disk: Disk) -> None:
    """Files that only a crash leaves beside a shard's file."""
    for suffix in (".pack", ".tmp", ".index.tmp"):
        if os.path.exists(path + suffix):
            disk.unlink(path + suffix)
