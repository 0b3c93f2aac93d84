"""What operators do with the data directory of any mode: verify, back up, restore and compact it.

Here are the order of the steps and what is refused; an engine reads and copies its own files. All but compacting may be
done while a server owns the directory and writes to it. A backup is a data directory like any other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from durable_streams.storage.on_disk.directory import BackupDamaged, NoRoom, check_empty
from durable_streams.storage.on_disk.disk import Disk, says_full
from durable_streams.storage.on_disk.report import Report
from durable_streams.storage.on_disk.room import RESERVE_NAME
from durable_streams.storage.on_disk.storage import DiskStorage


class DirectoryMaintenance(ABC):
    """Fulfils ``abilities.Maintained``. Every method raises a DirectoryError or an OSError when it cannot be done."""

    def __init__(self, disk: Disk | None = None) -> None:
        self._disk = disk or Disk()

    def verify(self, data_dir: Path) -> Report:
        """Read every byte, check every checksum, follow every stream; raises WrongLayout."""
        report = Report()
        self._read(data_dir, report)
        report.check_forks()
        return report

    def backup(self, data_dir: Path, target: Path) -> Report:
        """Copy the directory, as it is at one moment, into ``target`` and verify the copy.

        Raises DirectoryNotEmpty unless ``target`` is missing or empty, and DirectoryDamaged where no copy can be made.
        ``target`` is no data directory before the copy is whole and durable.
        """
        self._check(data_dir)
        check_empty(target)
        target.mkdir(parents=True, exist_ok=True)
        self._copy(data_dir, target)
        return self.verify(target)

    def restore(self, source: Path, data_dir: Path) -> Report:
        """Make ``data_dir`` what the backup ``source`` is.

        Raises DirectoryNotEmpty unless ``data_dir`` is missing or empty, and BackupDamaged; then nothing is restored.
        """
        check_empty(data_dir)
        report = self.verify(source)
        if report.problems:
            raise BackupDamaged(f"the backup {source} is not restored: {report.problems[0]}")
        return self.backup(source, data_dir)

    def compact(self, data_dir: Path) -> Report:
        """Free the space of what is no longer needed.

        Raises DirectoryInUse while a server runs, NoRoom when the disk is too full, and DirectoryDamaged where
        something is damaged that has to be read for it; then that file stays as it is.
        """
        self._check(data_dir)
        before = _stored_bytes(data_dir)
        try:
            storage = self._storage(data_dir)
            storage.open()
            try:
                storage.compact()
            finally:
                storage.close()
        except OSError as exc:
            if not says_full(exc):
                raise
            free = self._disk.free_bytes(str(data_dir))
            raise NoRoom(f"compacting {data_dir}", self._kept_bytes(data_dir), free) from exc
        return Report(bytes_before=before, bytes_after=_stored_bytes(data_dir))

    @abstractmethod
    def _check(self, data_dir: Path) -> None:
        """Raise WrongLayout or DirectoryDamaged unless this is a data directory of the engine."""

    @abstractmethod
    def _read(self, data_dir: Path, report: Report) -> None:
        """Put all streams and all problems into ``report``; raises WrongLayout."""

    @abstractmethod
    def _copy(self, data_dir: Path, target: Path) -> None:
        """Copy into the empty directory ``target``; its mark (``modes.Mode.mark``) comes last."""

    @abstractmethod
    def _storage(self, data_dir: Path) -> DiskStorage:
        """The storage of the directory, not opened, which does nothing but what it is told; raises WrongLayout."""

    @abstractmethod
    def _kept_bytes(self, data_dir: Path) -> int:
        """How much compacting has to write, about."""


def _stored_bytes(data_dir: Path) -> int:
    """The length of all files in a directory together, but for the reserve."""
    files = (path for path in data_dir.rglob("*") if path.is_file() and path.name != RESERVE_NAME)
    return sum(path.stat().st_size for path in files)
