"""The upkeep that each kind of data directory offers, in one form: the same four calls, results and errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from durable_streams.storage.abilities import Maintained
from durable_streams.storage.modes import StorageOptions, mode_of
from durable_streams.storage.on_disk import directory
from durable_streams.storage.on_disk.report import Report


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


class Upkeep:
    """Every call raises NoDataDirectory, DirectoryInUse, DataDamaged or OSError when it cannot be carried out."""

    def __init__(self, calls: Maintained) -> None:
        self._calls = calls

    def pack(self, data_dir: Path) -> Findings:
        """Give back the room of what is no longer needed; no server may own the directory."""
        with self._errors():
            before = stored_bytes(data_dir)
            self._calls.compact(data_dir)
        return Findings(f"packed {data_dir}: {before:,} bytes before, {stored_bytes(data_dir):,} after")

    def verify(self, data_dir: Path) -> Findings:
        """Read and check everything, also while a server writes."""
        with self._errors():
            return _findings(f"verified {data_dir}", self._calls.verify(data_dir))

    def backup(self, data_dir: Path, target: Path) -> Findings:
        """Copy the data of one moment into `target`, which is empty, also while a server writes."""
        with self._errors():
            return _findings(f"backed up to {target}", self._calls.backup(data_dir, target))

    def restore(self, source: Path, data_dir: Path) -> Findings:
        """Make `data_dir`, which is empty, what the backup `source` is."""
        with self._errors():
            return _findings(f"restored {data_dir}", self._calls.restore(source, data_dir))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except directory.DirectoryInUse as exc:
            raise DirectoryInUse(f"{exc}; stop it first") from exc
        except directory.WrongLayout as exc:
            raise NoDataDirectory(str(exc)) from exc
        except ValueError as exc:
            raise DataDamaged(str(exc)) from exc


def upkeep_of(options: StorageOptions) -> Upkeep | None:
    """What the configured mode offers; None: it keeps nothing on disk. Raises MissingExtra."""
    mode = mode_of(options)
    if mode.maintenance is None:
        return None
    mode.check_installed()
    return Upkeep(mode.maintenance())


def _findings(done: str, report: Report) -> Findings:
    summary = f"{done}: {report.streams:,} streams, {report.payload_bytes:,} bytes of payload"
    if report.torn_bytes:
        summary += f"; {report.torn_bytes:,} bytes behind the last whole batch belong to no answered request"
    return Findings(summary, report.problems)


def stored_bytes(data_dir: Path) -> int:
    """The length of all files in a directory together."""
    return sum(path.stat().st_size for path in data_dir.rglob("*") if path.is_file())
