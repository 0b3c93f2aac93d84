"""What the storages that keep their streams on disk have in common: they open as a whole, and give all of it back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import ExitStack

from durable_streams.storage.contract import Storage
from durable_streams.storage.on_disk.disk import Disk
from durable_streams.storage.on_disk.room import Room


class DiskStorage(Storage):
    """Nothing is touched before ``open``."""

    def __init__(self, disk: Disk, room: Room) -> None:
        self._disk = disk
        self._room = room
        self._resources: ExitStack | None = None
        """What ``close`` gives back; None while the storage is not open."""

    def open(self) -> None:
        """Raises DirectoryInUse, WrongLayout, DirectoryDamaged, or any other OSError."""
        if self._resources is None:
            with ExitStack() as resources:
                self._open(resources)
                self._resources = resources.pop_all()

    @abstractmethod
    def _open(self, resources: ExitStack) -> None:
        """Recover and be ready; ``resources`` is told how to give back what was opened."""

    def close(self) -> None:
        """Finish what is done behind the requests, and make everything durable that can be."""
        resources, self._resources = self._resources, None
        if resources is not None:
            with resources:
                self._stop()

    @abstractmethod
    def _stop(self) -> None:
        """Finish, and leave little to the next opening."""

    @abstractmethod
    def compact(self) -> None:
        """Free the space of what is no longer needed, now; raises OSError or DirectoryDamaged when that fails."""

    @property
    def is_full(self) -> bool:
        return self._resources is not None and self._room.is_refusing

    def measure_syncs(self, note: Callable[[float], None]) -> None:
        self._disk.on_sync = note
