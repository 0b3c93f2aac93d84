"""A file of the disk in the form of Python's own files, for code of ZODB that wants one."""

from __future__ import annotations

import io
import os
from typing import Any

from durable_streams.storage.on_disk.disk import Disk


class DiskFile(io.RawIOBase):
    """Unbuffered; put a buffer on it."""

    def __init__(self, disk: Disk, path: str, *, write: bool = False) -> None:
        self._disk = disk
        self._writable = write
        self._fd = disk.open(path, write=write)
        self._at = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return self._writable

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def readinto(self, buffer: Any) -> int:
        data = self._disk.read(self._fd, len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def write(self, data: Any) -> int:
        self._disk.write(self._fd, [bytes(data)], self._at)
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = (0, self._at, self._disk.size(self._fd) if whence == os.SEEK_END else 0)[whence]
        self._at = start + offset
        return self._at

    def truncate(self, size: int | None = None) -> int:
        self._disk.truncate(self._fd, self._at if size is None else size)
        return self._at if size is None else size

    def close(self) -> None:
        if not self.closed:
            try:
                super().close()
            finally:
                self._disk.close(self._fd)
