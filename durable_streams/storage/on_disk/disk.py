"""The calls to the operating system through which the storages change their files, in one place.

A test can put a disk in between that records, delays or fails every call. All methods may block, may be called from any
thread and raise OSError; policy is the callers'.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Final

Part = bytes | bytearray | memoryview

COPIED_AT_ONCE: Final = 1 << 20
"""Bytes."""
_PARTS_MAX: Final = 1024
"""The operating system takes no more in one call (IOV_MAX)."""
_NOT_CACHED: Final = {errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL}
_NO_ALLOCATION: Final = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_BUSY: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def says_full(error: OSError) -> bool:
    """Whether the disk, or the owner's share of it, is full."""
    return error.errno in _FULL


def says_busy(error: OSError) -> bool:
    """Whether there is no descriptor or memory to spare now, which says nothing of the file."""
    return error.errno in _BUSY


class Disk:
    """The real one."""

    on_sync: Callable[[float], None] | None = None
    """Told the seconds of each sync of a file, in the thread that has made it."""

    def open(self, path: str, *, write: bool = False) -> int:
        """A descriptor; for writing, the file is created when it is missing."""
        flags = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
        return os.open(path, flags | os.O_CLOEXEC, 0o640)

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def write(self, fd: int, parts: Sequence[Part], position: int) -> None:
        """Write all of ``parts`` at ``position``; when it raises, any part of them may have been written."""
        for first in range(0, len(parts), _PARTS_MAX):
            some = parts[first : first + _PARTS_MAX]
            length = sum(map(len, some))
            written = os.pwritev(fd, some, position)
            if written < length:
                self._write_rest(fd, b"".join(some)[written:], position + written)
            position += length

    def _write_rest(self, fd: int, rest: bytes, position: int) -> None:
        while rest:
            written = os.pwrite(fd, rest, position)
            rest, position = rest[written:], position + written

    def read(self, fd: int, length: int, position: int) -> bytes:
        """``length`` bytes, fewer only at the end of the file."""
        parts: list[bytes] = []
        while length and (data := os.pread(fd, length, position)):
            parts.append(data)
            length -= len(data)
            position += len(data)
        return b"".join(parts)

    def read_cached(self, fd: int, buffer: memoryview, position: int) -> bool:
        """Fill ``buffer`` if that needs no waiting, and say whether it did; at the end of a file it does not."""
        try:
            return os.preadv(fd, [buffer], position, os.RWF_NOWAIT) == len(buffer)
        except OSError as exc:
            if exc.errno in _NOT_CACHED:
                return False
            raise

    def free_bytes(self, path: str) -> int:
        """How much may still be written to the file system of ``path``; a quota is not seen."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def allocate(self, fd: int, size: int) -> None:
        """Take room for the first ``size`` bytes of a file, which need not be written."""
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as exc:
            if exc.errno not in _NO_ALLOCATION:
                raise
            # Where bytes are compressed or shared, zeros would take no room.
            os.pwrite(fd, os.urandom(size), 0)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Make the contents and the length of a file durable."""
        if self.on_sync is None:
            os.fdatasync(fd)
            return
        began = perf_counter()
        os.fdatasync(fd)
        self.on_sync(perf_counter() - began)

    def sync_dir(self, path: str) -> None:
        """Make the names in a directory durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        """Remove a file; it may have gone already."""
        with suppress(FileNotFoundError):
            os.unlink(path)

    def make_dir(self, path: str) -> bool:
        """Make a directory, and say whether it was not there."""
        try:
            os.mkdir(path, 0o750)
        except FileExistsError:
            return False
        return True

    def names(self, path: str) -> list[str]:
        """What a directory holds, in order; nothing when it is missing."""
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []


@contextmanager
def open_fd(disk: Disk, path: str, *, write: bool = False) -> Iterator[int]:
    """The descriptor of a file during a block."""
    fd = disk.open(path, write=write)
    try:
        yield fd
    finally:
        disk.close(fd)


def write_file(disk: Disk, path: str, data: Part) -> None:
    """Write a whole file and make it durable, its name excepted."""
    with open_fd(disk, path, write=True) as fd:
        disk.truncate(fd, 0)
        disk.write(fd, [data], 0)
        disk.sync(fd)


def replace_file(disk: Disk, path: str, data: Part) -> None:
    """Put a whole file in the place of ``path``: at any moment it is the old one or the new one."""
    write_file(disk, path + ".tmp", data)
    disk.rename(path + ".tmp", path)


def sync_file(disk: Disk, path: str) -> None:
    """Make the contents of a file durable, whoever wrote it."""
    with open_fd(disk, path) as fd:
        disk.sync(fd)


def copy_file(disk: Disk, source: int, target: str, length: int | None = None) -> None:
    """Copy the first ``length`` bytes of the descriptor ``source``, or all, to a new file; durable but for its name."""
    with open_fd(disk, target, write=True) as fd:
        end = disk.size(source) if length is None else length
        at = 0
        while at < end and (data := disk.read(source, min(COPIED_AT_ONCE, end - at), at)):
            disk.write(fd, [data], at)
            at += len(data)
        disk.sync(fd)
