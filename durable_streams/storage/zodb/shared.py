"""What the shards of a storage have in common: disk, threads, clock, and how many greenlets read one file."""

from __future__ import annotations

from typing import Final

from ZODB.utils import newTid, z64

from durable_streams.eventloop.threads import Threads, waiting_is_safe
from durable_streams.storage.on_disk.disk import Disk, Part

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


class Shared:
    """Made after the fork, by the process that opens the storage."""

    def __init__(self, disk: Disk, shard_count: int) -> None:
        self.disk = disk
        self.ids = TransactionIds()
        # ZODB holds locks of its own while it commits and reads.
        beside_loop = waiting_is_safe()
        self.committing = Threads(min(shard_count, COMMITTING_THREADS_MAX), beside_loop=beside_loop)
        self.reading = Threads(READING_THREADS_MAX, beside_loop=beside_loop)

    def close(self) -> None:
        self.committing.close()
        self.reading.close()


class OpenFile:
    """A shard's file, for reading by many greenlets and writing by one; the name may be given to another file."""

    def __init__(self, shared: Shared, path: str) -> None:
        self._disk = shared.disk
        self._threads = shared.reading
        self._path = path
        self._pins = 0
        self._outdated: list[int] = []
        self.fd = self._disk.open(path, write=True)

    def pin(self) -> int:
        """The descriptor for some reads that belong together; ``unpin`` ends them."""
        self._pins += 1
        return self.fd

    def unpin(self) -> None:
        self._pins -= 1
        if self._outdated:
            self._close_outdated()

    def read(self, fd: int, length: int, position: int) -> Part:
        """At once where the system has it in memory, in a thread elsewhere; shorter at the end of the file only."""
        data = bytearray(length)
        if self._disk.read_cached(fd, memoryview(data), position):
            return data
        return self._threads.run(self._disk.read, fd, length, position)

    def reopen(self) -> None:
        """Go on with the file that has the name now; what is pinned goes on with the old one."""
        fd = self._disk.open(self._path, write=True)
        self._outdated.append(self.fd)
        self.fd = fd
        self._close_outdated()

    def close(self) -> None:
        self._outdated.append(self.fd)
        self._close_outdated()

    def _close_outdated(self) -> None:
        # A number that is closed too early can become that of another file.
        while self._outdated and not self._pins:
            self._disk.close(self._outdated.pop())
