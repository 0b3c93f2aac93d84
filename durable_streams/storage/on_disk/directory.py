"""Who owns a data directory, and why one cannot be used: each error says so in one sentence with the path in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from durable_streams.storage.modes import modes_marked
from durable_streams.storage.on_disk.disk import Disk

OF_THE_SYSTEM: Final = frozenset({"lost+found"})
"""What may lie at the top of a disk, and belongs to nobody."""


class DirectoryError(Exception):
    """A data directory cannot be opened, copied or compacted."""


class DirectoryInUse(DirectoryError, OSError):
    """Another process owns the directory."""

    def __init__(self, data_dir: Path, owner: str) -> None:
        by = f"process {owner}" if owner else "another process"
        super().__init__(f"the data directory {data_dir} is in use by {by}")


class WrongLayout(DirectoryError, ValueError):
    """The directory is not one of ours, not of a version that this server reads, or divided into other shards."""


class DirectoryDamaged(DirectoryError, ValueError):
    """Something that had been made durable is missing or changed; opening does not guess."""

    def __init__(self, path: str, position: int, what: str) -> None:
        super().__init__(f"{path} is damaged at byte {position}: {what}")
        self.path = path
        self.position = position
        self.what = what


class BackupDamaged(DirectoryError, ValueError):
    """A backup is not restored, because verifying it found a problem."""


class NoRoom(DirectoryError, OSError):
    """There is not enough room on the disk for what was asked; the message says how much it needs."""

    def __init__(self, what: str, needed: int, free: int) -> None:
        super().__init__(
            f"{what} needs about {needed:,} bytes of room, and {free:,} are free:"
            " delete streams, or make room on the disk"
        )


class DirectoryNotEmpty(DirectoryError, ValueError):
    """Something lies where a copy was to be written; nothing is ever written over."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"{directory} is not empty; nothing was written")


def names_in(directory: Path) -> list[str]:
    """What somebody has put into a directory, in order."""
    return sorted(set(os.listdir(directory)) - OF_THE_SYSTEM)


def check_empty(directory: Path) -> None:
    """Raise DirectoryNotEmpty unless ``directory`` is missing or empty."""
    if directory.exists() and (not directory.is_dir() or names_in(directory)):
        raise DirectoryNotEmpty(directory)


def claim(disk: Disk, data_dir: Path, folder: str, mark: str, is_ours: Callable[[str], bool]) -> bool:
    """Make ``folder`` of a data directory, and say whether ``mark`` is in it.

    Raises WrongLayout when it is not, and something lies there that is not ours, such as the streams of another mode.
    """
    if disk.make_dir(folder):
        disk.sync_dir(os.path.dirname(os.path.abspath(folder)))
    names = names_in(Path(folder))
    foreign = [name for name in names if not is_ours(name)]
    if mark not in names and foreign:
        raise WrongLayout(f"{folder} holds {foreign[0]!r} and no {mark!r}: {kind_of(data_dir)}")
    return mark in names


def kind_of(data_dir: Path) -> str:
    """The end of the sentence why a directory is not one of the mode that is set."""
    modes = modes_marked(data_dir)
    return f"it was made with storage.mode = {' or '.join(modes)}" if modes else "it is not a data directory"


def own(data_dir: Path, lock: str) -> int:
    """Become the owner of the directory until the descriptor is closed; raises DirectoryInUse.

    ``lock`` is the path of a file that stays, and holds the owner's process id for people.
    """
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(fd, 20).decode("ascii", "replace").strip()
        os.close(fd)
        raise DirectoryInUse(data_dir, owner) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
