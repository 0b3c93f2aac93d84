"""A file that is written from its beginning to its end, and that nobody reads before it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from durable_streams.storage.on_disk.disk import Disk, Part

WRITTEN_AT_ONCE: Final = 1 << 20
"""Bytes: small parts wait until there are so many, because each call gives up the interpreter's lock."""


class NewFile:
    """``size`` counts what waits too; an error of ``add`` may be of what was added before."""

    def __init__(self, disk: Disk, path: str) -> None:
        self.path = path
        self.size = 0
        self._disk = disk
        self._fd = disk.open(path, write=True)
        disk.truncate(self._fd, 0)
        self._waiting: list[Part] = []
        self._written = 0

    def add(self, parts: Sequence[Part]) -> None:
        self._waiting += parts
        self.size += sum(map(len, parts))
        if self.size - self._written >= WRITTEN_AT_ONCE:
            self._write()

    def sync(self) -> None:
        """Make all that was added durable, but for the file's name."""
        self._write()
        self._disk.sync(self._fd)

    def _write(self) -> None:
        self._disk.write(self._fd, self._waiting, self._written)
        self._waiting = []
        self._written = self.size

    def close(self) -> None:
        self._disk.close(self._fd)
