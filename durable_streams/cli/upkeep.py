"""The upkeep that each kind of data directory offers, in one form: the same four calls, results and errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from durable_streams.config.settings import StorageSettings

# The storages are heavy imports that other commands do without.
if TYPE_CHECKING:
    from durable_streams.backends.files.maintenance import Report


@dataclass(frozen=True, slots=True)
class Findings:
    """One line on what was done, and one for everything that is damaged, with its file and position."""

    summary: str
    problems: list[str] = field(default_factory=list)


class NoDataDirectory(Exception):
    """There is no data of that kind in the directory."""


class DirectoryInUse(Exception):
    """A server owns the directory, and the call needs it alone."""


class DataDamaged(Exception):
    """What was to be copied or packed is damaged, and so it was not done."""


class Upkeep(Protocol):
    """Every call raises NoDataDirectory, DirectoryInUse, DataDamaged or OSError when it cannot be carried out."""

    def pack(self, data_dir: Path) -> Findings:
        """Give back the room of what is no longer needed."""

    def verify(self, data_dir: Path) -> Findings:
        """Read and check everything, also while a server writes."""

    def backup(self, data_dir: Path, target: Path) -> Findings:
        """Copy the data of one moment into `target`, which is empty, also while a server writes."""

    def restore(self, source: Path, data_dir: Path) -> Findings:
        """Make `data_dir`, which is empty, what the backup `source` is."""


def upkeep_of(storage: StorageSettings) -> Upkeep | None:
    """What the configured mode offers; None: it keeps nothing on disk."""
    if storage.mode == "memory" or (storage.mode == "acid" and storage.acid_backend == "in-memory"):
        return None
    return FileUpkeep()


class FileUpkeep:
    """`file-fast` and `file-durable`, which share one kind of directory."""

    def pack(self, data_dir: Path) -> Findings:
        """One checkpoint of everything takes the place of the journals and of all older checkpoints."""
        from durable_streams.backends.files import FileStorage, Tuning

        before = stored_bytes(data_dir)
        with self._errors():
            self._check(data_dir)
            storage = FileStorage(data_dir, durable=True, tuning=Tuning(checkpoints_max=1))
            storage.open()
            try:
                storage.checkpoint()
            finally:
                storage.close()
        return Findings(f"packed {data_dir}: {before:,} bytes before, {stored_bytes(data_dir):,} after")

    def verify(self, data_dir: Path) -> Findings:
        from durable_streams.backends.files import maintenance

        with self._errors():
            return self._findings(f"verified {data_dir}", maintenance.verify(data_dir))

    def backup(self, data_dir: Path, target: Path) -> Findings:
        from durable_streams.backends.files import maintenance

        with self._errors():
            return self._findings(f"backed up to {target}", maintenance.backup(data_dir, target))

    def restore(self, source: Path, data_dir: Path) -> Findings:
        from durable_streams.backends.files import maintenance

        with self._errors():
            return self._findings(f"restored {data_dir}", maintenance.restore(source, data_dir))

    @staticmethod
    def _check(data_dir: Path) -> None:
        """Opening would make a new data directory where there is none."""
        from durable_streams.backends.files.disk import Disk
        from durable_streams.backends.files.layout import Layout, check_version

        check_version(Layout(data_dir), Disk())

    @staticmethod
    @contextmanager
    def _errors() -> Iterator[None]:
        from durable_streams.backends import files

        try:
            yield
        except files.DirectoryInUse as exc:
            raise DirectoryInUse(f"{exc}; stop it first") from exc
        except files.WrongLayout as exc:
            raise NoDataDirectory(str(exc)) from exc
        except ValueError as exc:
            raise DataDamaged(str(exc)) from exc

    @staticmethod
    def _findings(done: str, report: Report) -> Findings:
        summary = f"{done}: {report.streams:,} streams, {report.payload_bytes:,} bytes of payload"
        if report.torn_bytes:
            summary += (
                f"; {report.torn_bytes:,} bytes at the end of the journal belong to no answered request"
            )
        return Findings(summary, report.problems)


def stored_bytes(data_dir: Path) -> int:
    """The length of all files in a directory together."""
    return sum(path.stat().st_size for path in data_dir.rglob("*") if path.is_file())
