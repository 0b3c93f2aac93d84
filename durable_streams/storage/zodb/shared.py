"""What the shards of a storage have in common: disk, threads, and transaction ids in one order."""

from __future__ import annotations

from typing import Final

from ZODB.utils import newTid, z64

from durable_streams.eventloop.threads import Threads, waiting_is_safe
from durable_streams.storage.on_disk.disk import Disk

COMMITTING_THREADS_MAX: Final = 16
READING_THREADS_MAX: Final = 4


class TransactionIds:
    """Gives transaction ids that grow over all shards, so that a backup can be taken of one moment."""

    def __init__(self) -> None:
        self._last: bytes = z64

    def next(self) -> bytes:
        self._last = newTid(self._last)
        return self._last

    def note(self, tid: bytes) -> None:
        """``tid`` was given before."""
        self._last = max(self._last, tid)


class SharedByShards:
    """Made after the fork, by the process that opens the storage."""

    def __init__(self, disk: Disk, shard_count: int) -> None:
        self.disk = disk
        self.ids = TransactionIds()
        # ZODB holds locks of its own while it commits and reads.
        beside_loop = waiting_is_safe()
        self.committing = Threads(min(shard_count, COMMITTING_THREADS_MAX), beside_loop=beside_loop)
        self.reading = Threads(READING_THREADS_MAX, beside_loop=beside_loop)
        self.background = Threads(1, beside_loop=beside_loop)

    def close(self) -> None:
        for threads in (self.committing, self.reading, self.background):
            threads.close()
