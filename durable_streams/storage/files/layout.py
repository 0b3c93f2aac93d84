"""Where things lie in a data directory, who owns it, and which version it has."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from durable_streams.storage.on_disk.directory import WrongLayout, claim, kind_of
from durable_streams.storage.on_disk.disk import Disk, replace_file
from durable_streams.storage.on_disk.room import RESERVE_NAME

VERSION_LINE: Final = b"durable-streams files 1\n"
_OURS: Final = {"layout", "layout.tmp", "lock", "deletions.lock", RESERVE_NAME, f"{RESERVE_NAME}.tmp"}


class Layout:
    """The paths of one data directory, as text."""

    def __init__(self, data_dir: Path | str) -> None:
        self.data_dir = Path(data_dir)
        root = str(data_dir)
        self.root = root
        self.version = os.path.join(root, "layout")
        self.lock = os.path.join(root, "lock")
        self.deletions_lock = os.path.join(root, "deletions.lock")
        self.journals = os.path.join(root, "journal")
        self.checkpoints = os.path.join(root, "checkpoints")
        self.streams = os.path.join(root, "streams")

    def journal(self, number: int) -> str:
        return os.path.join(self.journals, f"{number:010d}.log")

    def checkpoint(self, number: int) -> str:
        return os.path.join(self.checkpoints, f"{number:010d}.checkpoint")

    def stream_folder(self, id: int) -> str:
        return os.path.join(self.streams, f"{id & 0xFF:02x}")

    def stream(self, id: int) -> str:
        return f"{self.streams}/{id & 0xFF:02x}/{id:016x}"


def numbered(names: list[str], suffix: str) -> list[int]:
    """The numbers of the files among ``names`` that end in ``suffix``, in order."""
    stems = [name.removesuffix(suffix) for name in names if name.endswith(suffix)]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def prepare(layout: Layout, disk: Disk) -> None:
    """Make a new data directory, or see that it is one that this server can read; raises WrongLayout."""
    layout.data_dir.parent.mkdir(parents=True, exist_ok=True)
    if claim(disk, layout.data_dir, layout.root, "layout", _OURS.__contains__):
        check_version(layout, disk)
        # A server that was killed may have given names that are not durable yet; what follows rests on them.
        disk.sync_dir(layout.root)
    else:
        write_version(layout, disk)
    made = [disk.make_dir(path) for path in (layout.journals, layout.checkpoints, layout.streams)]
    if any(made):
        disk.sync_dir(layout.root)


def check_version(layout: Layout, disk: Disk) -> None:
    """Raise WrongLayout unless the directory is of the version that this server reads and writes."""
    try:
        fd = disk.open(layout.version)
    except FileNotFoundError:
        raise WrongLayout(f"{layout.root} holds no file 'layout': {kind_of(layout.data_dir)}") from None
    try:
        line = disk.read(fd, 100, 0)
    finally:
        disk.close(fd)
    if line != VERSION_LINE:
        found, read = line.decode("ascii", "replace").strip(), VERSION_LINE.decode().strip()
        raise WrongLayout(f"{layout.version} says {found!r}, and this server reads {read!r}")


def write_version(layout: Layout, disk: Disk) -> None:
    """The first thing in a new directory, whole or not there."""
    replace_file(disk, layout.version, VERSION_LINE)
    disk.sync_dir(layout.root)


@contextmanager
def deletions_held(layout: Layout) -> Iterator[None]:
    """While this lasts the owner of the directory unlinks nothing; waits until it has finished doing so."""
    try:
        fd = os.open(layout.deletions_lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as exc:
        if exc.errno not in (errno.EROFS, errno.EACCES) or os.path.exists(layout.lock):
            raise
        # A backup on a medium that cannot be written to has no owner either.
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


@contextmanager
def deletions_allowed(layout: Layout) -> Iterator[bool]:
    """Whether the owner may unlink files now; if so, a reader that comes has to wait until the end of the block."""
    fd = os.open(layout.deletions_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
