"""What a test run tells while it runs and at its end: failures as they happen, and files that it left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

LEFT_OUT: Final = frozenset(
    {".git", "node_modules", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
)
"""Not looked into: environments, and the caches of the tools that run the tests."""


class FailureNames:
    """Names every failure at once, with its reason in one line; the whole report comes at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = str(crash.message if crash else report.longrepr).partition("\n")[0]
            say(self._config, f"FAILED {report.nodeid} ({report.when}): {reason[:200]}")


class CheckoutGuard:
    """Says which files of the checkout have come, gone or changed during a run; under CI=true the run has failed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._before = dict(files_below(root))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        after = dict(files_below(self._root))
        changed = sorted(path for path, _ in self._before.items() ^ after.items())
        if not changed:
            return
        for path in dict.fromkeys(changed):
            say(session.config, f"changed during the run: {path}")
        if os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def say(config: pytest.Config, line: str) -> None:
    """Write one line to the terminal, in red where that has colours."""
    terminal: pytest.TerminalReporter = config.pluginmanager.getplugin("terminalreporter")
    terminal.ensure_newline()
    terminal.write_line(line, red=True)


def files_below(root: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Path -> size and time of change, of every file that belongs to the checkout or was put there."""
    for folder, names, files in os.walk(root):
        names[:] = [
            name
            for name in names
            if name not in LEFT_OUT and not name.startswith(".venv") and name[-9:] != ".egg-info"
        ]
        for name in files:
            path = Path(folder) / name
            found = path.lstat()
            yield str(path.relative_to(root)), (found.st_size, found.st_mtime_ns)
