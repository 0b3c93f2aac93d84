"""Room on the disk: when ordinary writes are refused, and the reserve that gives deletions room on a full disk.

A write is *ordinary* when it adds payload or a stream. All others (deletions, closes) and what frees room after them
(checkpoints, packs) may use up the reserve, a file that is given up when they find no room. While it is not whole, or
fewer bytes are free than have to stay free, ordinary writes are refused: they would eat what was just freed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from durable_streams.protocol.errors import StorageFull
from durable_streams.storage.contract import Change
from durable_streams.storage.on_disk.disk import Disk, open_fd, says_full

log = logging.getLogger("durable_streams.storage")

RESERVE_NAME: Final = "reserve"
SMALL_BYTES: Final = 64 << 10
"""The disk is full when it refuses so little; a larger write alone proves nothing."""
PROBE_BYTES: Final = 256 << 10
"""A disk that was full has room again when it takes so much."""
STREAM_BYTES: Final = 512
"""What a stream takes beside its payload, about."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """What has to stay free, in bytes; 0 for nothing."""

    min_free_bytes: int = 0
    """Ordinary writes are refused when fewer are free."""
    reserve_bytes: int = 4 << 20
    """Length of the reserve."""


def limits_left(folder: str) -> RoomLimits:
    """For maintenance: the reserve that the owner of ``folder`` has left, if any."""
    with suppress(FileNotFoundError):
        return RoomLimits(0, os.path.getsize(os.path.join(folder, RESERVE_NAME)))
    return RoomLimits(0, 0)


class Room:
    """The room for one data directory. For the thread of the event loop; the calls to the disk are short."""

    def __init__(self, disk: Disk, folder: str, limits: RoomLimits) -> None:
        """``folder``: where the reserve lies. Nothing is touched before ``open``."""
        self._disk = disk
        self._folder = folder
        self._reserve = os.path.join(folder, RESERVE_NAME)
        self._limits = limits
        self._held_bytes = 0
        """Length of the reserve now."""
        self._is_low = False
        """Fewer bytes are free than have to stay free."""
        self._was_full = False
        """An ordinary write, and a small one, has found no room."""
        self._unlooked_bytes = 0
        """What may be written before it is looked again how much is free."""
        self._was_refusing = False

    def open(self) -> None:
        """Take over the reserve that the last owner has left, and see that it is whole, or that there is no room."""
        if self._limits.reserve_bytes:
            with suppress(OSError), open_fd(self._disk, self._reserve, write=True) as fd:
                self._held_bytes = min(self._disk.size(fd), self._limits.reserve_bytes)
        self.look()

    @property
    def is_refusing(self) -> bool:
        """Whether ordinary writes are refused."""
        return self._is_low or self._was_full or self._held_bytes < self._limits.reserve_bytes

    def commit(self, changes: Iterable[Change], write: Callable[[], T]) -> T:
        """Do ``write``, which records ``changes``; raises StorageFull, also when it was not tried."""
        size = _added_bytes(changes)
        if not size:
            return self.delete(write)
        self._unlooked_bytes -= size
        if (self.is_refusing or self._unlooked_bytes < 0) and not self.look():
            raise StorageFull(f"{self._free()} bytes are free in {self._folder}")
        try:
            return write()
        except StorageFull:
            if size <= SMALL_BYTES:
                self._was_full = True
                self._tell()
            raise

    def free_up(self, work: Callable[[], T]) -> T:
        """Do ``work``, which frees room in the end; half of the reserve is left to deletions, which must not fail."""
        return self._with_reserve(work, self._limits.reserve_bytes // 2)

    def delete(self, work: Callable[[], T]) -> T:
        """Do ``work``, which needs little and lets something go; it may use all of the reserve."""
        return self._with_reserve(work, 0)

    def room_for_freeing(self) -> int:
        """How many bytes ``free_up`` can use."""
        return self._free() + max(0, self._held_bytes - self._limits.reserve_bytes // 2)

    def _with_reserve(self, work: Callable[[], T], left: int) -> T:
        """Do ``work``, and when there is no room once more with a reserve of no more than ``left`` bytes."""
        held = self._held_bytes
        try:
            return work()
        except (StorageFull, OSError) as exc:
            if held <= left or (isinstance(exc, OSError) and not says_full(exc)):
                raise
            self._give_up(left)
        return work()

    def look(self) -> bool:
        """Look how much is free, and make the reserve again where there is room; whether ordinary writes are taken."""
        limits = self._limits
        try:
            free = self._free()
            self._is_low = free < limits.min_free_bytes
            missing = limits.reserve_bytes - self._held_bytes
            if missing and free >= limits.min_free_bytes + missing:
                self._held_bytes = limits.reserve_bytes if self._allocate(limits.reserve_bytes) else 0
            if self._was_full and free >= limits.min_free_bytes + PROBE_BYTES:
                self._was_full = not self._probe()
            # Payload lies in the journal and in its file, or is copied by a pack: it takes more than its length.
            self._unlooked_bytes = (free - limits.min_free_bytes) // 4
        except OSError as exc:
            log.warning("it cannot be told how much room there is in %s: %s", self._folder, exc)
        self._tell()
        return not self.is_refusing

    def _free(self) -> int:
        return self._disk.free_bytes(self._folder)

    def _allocate(self, size: int) -> bool:
        """Make the reserve ``size`` bytes long; where that cannot be there is none."""
        try:
            with open_fd(self._disk, self._reserve, write=True) as fd:
                self._disk.allocate(fd, size)
                self._disk.truncate(fd, size)
        except OSError:
            with suppress(OSError):
                self._disk.unlink(self._reserve)
            return False
        return True

    def _probe(self) -> bool:
        """Whether the disk takes more; a quota shows in nothing else."""
        probe = self._reserve + ".tmp"
        try:
            with open_fd(self._disk, probe, write=True) as fd:
                self._disk.allocate(fd, PROBE_BYTES)
        except OSError:
            return False
        finally:
            self._disk.unlink(probe)
        return True

    def _give_up(self, left: int) -> None:
        if left:
            with open_fd(self._disk, self._reserve, write=True) as fd:
                self._disk.truncate(fd, left)
        else:
            self._disk.unlink(self._reserve)
        self._held_bytes = left
        self._tell()

    def _tell(self) -> None:
        """One line when it changes whether ordinary writes are refused."""
        refuses = self.is_refusing
        if refuses == self._was_refusing:
            return
        self._was_refusing = refuses
        if refuses:
            log.warning(
                "%s has no room: writes are refused, but for deletes and closes (%s)",
                self._folder,
                self._reason(),
            )
        else:
            log.warning("%s has room again: writes are taken", self._folder)

    def _reason(self) -> str:
        if self._is_low:
            return f"fewer than storage.min_free_bytes = {self._limits.min_free_bytes} are free"
        if self._held_bytes < self._limits.reserve_bytes:
            return f"there is no room for the reserve of {self._limits.reserve_bytes} bytes"
        return "the disk is full"


class NoLimit(Room):
    """For what lies in memory."""

    def __init__(self) -> None:
        super().__init__(Disk(), "", RoomLimits(0, 0))

    def commit(self, changes: Iterable[Change], write: Callable[[], T]) -> T:
        return write()


def _added_bytes(changes: Iterable[Change]) -> int:
    """What ordinary changes add, about; 0 when there is none among them."""
    size = 0
    for change in changes:
        for data in change.appended:
            size += len(data)
        if change.before is None:
            size += STREAM_BYTES
    return size
