"""The temporary directory of one test run: what its processes write stands there, and goes with the run."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest

LOCK: Final = "lock"
"""Locked by a run for as long as it lives, so that the next one knows what a killed run has left."""


DATABASE_SECONDS_MAX: Final = 30.0


class Scratch:
    """Makes the directory the `TMPDIR` of the run's processes, and removes it at the end.

    After a failure it stays, without what the passed tests wrote, until the next run begins.
    """

    def __init__(self, config: pytest.Config, above: Path | None = None) -> None:
        self._above = above or Path(tempfile.gettempdir()).resolve() / f"ds-tests-{os.getuid()}"
        self._has_failed = False
        # Another user's processes (PostgreSQL's) pass through and see nothing.
        self._above.mkdir(mode=0o711, exist_ok=True)
        if self._above.stat().st_uid != os.getuid():
            raise pytest.UsageError(f"{self._above} belongs to another user: set TMPDIR")
        with _locked(self._above / LOCK):
            self._remove_what_dead_runs_left()
            self.folder = Path(tempfile.mkdtemp(dir=self._above))
            self.folder.chmod(0o711)
            self._alive = _locked(self.folder / LOCK)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.folder)
        # `make` names a place that stays, for failing examples to be tried first in the next run.
        os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(self.folder / "hypothesis"))
        if config.option.basetemp is None:
            config.option.basetemp = str(self.folder / "t")
        signal.signal(signal.SIGTERM, _end_as_after_ctrl_c)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._has_failed |= report.failed

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """The processes of xdist have ended by now."""
        stop_databases(self.folder)
        if not self._has_failed:
            remove(self.folder)
        self._alive.close()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._has_failed:
            terminalreporter.write_line(f"Kept until the next run begins: {self.folder}")

    def _remove_what_dead_runs_left(self) -> None:
        for folder in self._above.iterdir():
            if folder.is_dir() and _is_dead(folder):
                stop_databases(folder)
                remove(folder)


def _locked(path: Path, *, wait: bool = True) -> Any:
    """The open file, locked until it is closed; raises BlockingIOError if another process has it and `wait` is off."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        file.close()
        raise
    return file


def _is_dead(folder: Path) -> bool:
    try:
        _locked(folder / LOCK, wait=False).close()
    except BlockingIOError:
        return False
    return True


def _end_as_after_ctrl_c(*_: object) -> None:
    raise KeyboardInterrupt("SIGTERM")


def stop_databases(folder: Path) -> None:
    """End each PostgreSQL whose data are below `folder`; a test process that was killed has left it running."""
    for file in folder.glob("**/data/postmaster.pid"):
        pid = int(file.read_text().split("\n", 1)[0])
        try:
            if os.readlink(f"/proc/{pid}/cwd") != str(file.parent):
                continue
            process = os.pidfd_open(pid)
            # Its immediate shutdown, which gives shared memory back.
            signal.pidfd_send_signal(process, signal.SIGQUIT)
            select.select([process], [], [], DATABASE_SECONDS_MAX)
            os.close(process)
        except OSError:
            continue


def remove(folder: Path) -> None:
    """Remove it whole, also where a test has taken away the right to write."""
    shutil.rmtree(folder, onerror=_remove_with_rights)


def _remove_with_rights(_: object, path: str, __: object) -> None:
    parent = Path(path).parent
    try:
        parent.chmod(parent.stat().st_mode | stat.S_IRWXU)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, stat.S_IRWXU)
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except OSError:
        return
