"""An open file with many readers; the last one closes it once it is not needed any more."""

from __future__ import annotations

from typing import Self

from durable_streams.eventloop.threads import Threads
from durable_streams.storage.on_disk.disk import Disk, Part


class OpenFile:
    """For the thread of the event loop. A number that is closed too early can become that of another file."""

    __slots__ = ("_disk", "_is_retired", "fd", "path", "users")

    def __init__(self, disk: Disk, path: str, *, write: bool = False) -> None:
        """Opens the file, which may be done in another thread."""
        self.path = path
        self.users = 0
        self.fd = disk.open(path, write=write)
        self._disk = disk
        self._is_retired = False

    def read_into(self, buffer: memoryview, position: int, threads: Threads) -> Part:
        """As many bytes as fit, in ``buffer`` if the system has them in memory; elsewhere a thread reads them.

        Fewer at the end of the file only.
        """
        if self._disk.read_cached(self.fd, buffer, position):
            return buffer
        return threads.run(self._disk.read, self.fd, len(buffer), position)

    def borrow(self) -> Self:
        """Keep it open until ``give_back``."""
        self.users += 1
        return self

    def give_back(self) -> None:
        self.users -= 1
        self._close_unused()

    def retire(self) -> None:
        """Close it as soon as nobody uses it. Called once."""
        self._is_retired = True
        self._close_unused()

    def _close_unused(self) -> None:
        if self._is_retired and not self.users:
            self._disk.close(self.fd)
