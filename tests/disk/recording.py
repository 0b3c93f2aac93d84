"""Disks to put under the file modes: one records into a History, one fails at the n-th call, one does not sync."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

from durable_streams.storage.files import Disk
from durable_streams.storage.on_disk.disk import Part
from tests.disk.history import History


class HastyDisk(Disk):
    """Syncs nothing: for directories that no power cut will meet."""

    def sync(self, fd: int) -> None:
        pass

    def sync_dir(self, path: str) -> None:
        pass


class PausableDisk(HastyDisk):
    """Changes nothing while ``pause`` is held, so that what threads are doing to it can be seen as of one moment."""

    def __init__(self) -> None:
        self.pause = Lock()

    def open(self, path: str, *, write: bool = False) -> int:
        with self.pause:
            return super().open(path, write=write)

    def write(self, fd: int, parts: Sequence[Part], position: int) -> None:
        with self.pause:
            super().write(fd, parts, position)

    def truncate(self, fd: int, size: int) -> None:
        with self.pause:
            super().truncate(fd, size)

    def rename(self, source: str, target: str) -> None:
        with self.pause:
            super().rename(source, target)

    def unlink(self, path: str) -> None:
        with self.pause:
            super().unlink(path)

    def make_dir(self, path: str) -> bool:
        with self.pause:
            return super().make_dir(path)


class RecordingDisk(HastyDisk):
    """Does everything to real files under ``root``, and writes it down."""

    def __init__(self, root: Path, history: History) -> None:
        self._root = root
        self._history = history
        self._paths: dict[int, str] = {}

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self._root)

    def open(self, path: str, *, write: bool = False) -> int:
        is_new = write and not os.path.exists(path)
        fd = super().open(path, write=write)
        self._paths[fd] = self._relative(path)
        if is_new:
            self._history.add("create", self._paths[fd])
        return fd

    def write(self, fd: int, parts: Sequence[Part], position: int) -> None:
        super().write(fd, parts, position)
        self._history.add("write", self._paths[fd], position, b"".join(parts))

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size)
        self._history.add("truncate", self._paths[fd], size)

    def sync(self, fd: int) -> None:
        began_at = len(self._history)
        super().sync(fd)
        self._history.sync(self._paths[fd], began_at)

    def sync_dir(self, path: str) -> None:
        began_at = len(self._history)
        super().sync_dir(path)
        folder = self._relative(path)
        self._history.sync_dir("" if folder == "." else folder, began_at)

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        old, new = self._relative(source), self._relative(target)
        self._paths = {fd: new if path == old else path for fd, path in self._paths.items()}
        self._history.add("rename", old, new)

    def unlink(self, path: str) -> None:
        existed = os.path.exists(path)
        super().unlink(path)
        if existed:
            self._history.add("unlink", self._relative(path))

    def make_dir(self, path: str) -> bool:
        made = super().make_dir(path)
        if made and self._relative(path) != ".":
            self._history.add("make_dir", self._relative(path))
        return made


class CrowdedDisk(HastyDisk):
    """Has room for ``capacity`` bytes in the files below ``root``; of a write that does not fit a part is written."""

    def __init__(self, root: Path, capacity: int) -> None:
        self.root = root
        self.capacity = capacity

    def free_bytes(self, path: str) -> int:
        used = sum(
            os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(self.root) for name in names
        )
        return max(0, self.capacity - used)

    def write(self, fd: int, parts: Sequence[Part], position: int) -> None:
        data = b"".join(parts)
        fits = self.free_bytes("") - (position + len(data) - self.size(fd))
        if fits < 0:
            super().write(fd, [data[: max(0, len(data) + fits)]], position)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(fd, parts, position)

    def allocate(self, fd: int, size: int) -> None:
        if size - self.size(fd) > self.free_bytes(""):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().allocate(fd, size)


class FaultyDisk(HastyDisk):
    """Counts the calls of the given kinds and fails one of them, or all from one on."""

    def __init__(
        self, kinds: set[str], fail_at: int = -1, error: int = errno.EIO, *, for_good: bool = False
    ) -> None:
        """``kinds``: names of methods; ``fail_at``: the number of the call that fails, from 0; -1 for none."""
        self.kinds = kinds
        self.calls = 0
        self.fail_at = fail_at
        self.failed: str | None = None
        """What has failed: the name of the method."""
        self._error = error
        self._for_good = for_good

    def _count(self, kind: str) -> None:
        if kind not in self.kinds:
            return
        number, self.calls = self.calls, self.calls + 1
        if number == self.fail_at or (self._for_good and 0 <= self.fail_at < number):
            self.failed = self.failed or kind
            raise OSError(self._error, os.strerror(self._error), kind)

    def open(self, path: str, *, write: bool = False) -> int:
        self._count("open")
        return super().open(path, write=write)

    def write(self, fd: int, parts: Sequence[Part], position: int) -> None:
        self._partly(lambda: self._count("write"), fd, parts, position)
        super().write(fd, parts, position)

    def _partly(self, count: Callable[[], None], fd: int, parts: Sequence[Part], position: int) -> None:
        """A write that fails has done a part of its work all the same."""
        try:
            count()
        except OSError:
            data = b"".join(parts)
            super().write(fd, [data[: len(data) // 2]], position)
            raise

    def read(self, fd: int, length: int, position: int) -> bytes:
        self._count("read")
        return super().read(fd, length, position)

    def read_cached(self, fd: int, buffer: memoryview, position: int) -> bool:
        self._count("read")
        return super().read_cached(fd, buffer, position)

    def truncate(self, fd: int, size: int) -> None:
        self._count("truncate")
        super().truncate(fd, size)

    def allocate(self, fd: int, size: int) -> None:
        self._count("write")
        super().allocate(fd, size)

    def sync(self, fd: int) -> None:
        self._count("sync")
        super().sync(fd)

    def sync_dir(self, path: str) -> None:
        self._count("sync_dir")
        super().sync_dir(path)

    def rename(self, source: str, target: str) -> None:
        self._count("rename")
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self._count("unlink")
        super().unlink(path)
