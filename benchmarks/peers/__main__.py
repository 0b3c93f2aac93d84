"""`make bench` and `make bench-quick`: this server against its peers, one at a time on one core.

The servers are started in turn, round after round, so that a slow minute of the machine falls on all of them. Printed
is the median over the rounds with its spread, CPU a request, and the ratio of this server to each peer.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers.loads import Figures
from benchmarks.peers.plan import START_MANY, Group, groups
from benchmarks.peers.running import running
from benchmarks.peers.servers import ALL, NODE_VERSION, QUICK, RUST_VERSION, Kind, Missing
from benchmarks.peers.sizes import create_many
from benchmarks.peers.table import render
from benchmarks.storage.machine import describe

MANY_STREAMS = 100_000
CREATE_SECONDS_MAX = 60.0


class Report:
    """The figures so far, written to a file after every server: a run that is cut short has not been for nothing."""

    def __init__(self, machine: list[str], file: Path | None) -> None:
        self.content: dict[str, Any] = {"machine": machine, "missing": {}, "results": {}}
        self._file = file

    def add(self, server: str, row: str, figures: Figures) -> None:
        self.content["results"].setdefault(server, {}).setdefault(row, []).append(figures)

    def miss(self, what: str, reason: Exception) -> None:
        known = isinstance(reason, Missing | RuntimeError)
        said = str(reason) if known else f"{type(reason).__name__}: {reason}"
        if isinstance(reason, subprocess.CalledProcessError):
            said = f"the loading program failed: {str(reason.stderr).strip()}"
        self.content["missing"][what] = said

    def save(self) -> None:
        if self._file is not None:
            self._file.write_text(json.dumps(self.content, indent=1))


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    # So that an ended run ends its server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _alone():
        return _compare(options)


@contextmanager
def _alone() -> Iterator[None]:
    """One comparison at a time on a machine: two would measure each other."""
    with (Path(tempfile.gettempdir()) / "durable-streams-bench.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("Another comparison is running on this machine; wait for its end.")
        yield


def _compare(options: argparse.Namespace) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".bench-peers-", dir=options.folder) as name:
        folder = Path(name)
        report = Report([*describe(folder), _versions()], options.json)
        kinds = _kinds(options, report)
        for number in range(options.rounds):
            # There and back: whoever comes first in one round comes last in the next.
            for kind in kinds if number % 2 == 0 else reversed(kinds):
                spent = time.monotonic() - began
                print(f"{spent:5.0f} s, round {number + 1} of {options.rounds}: {kind.name}", file=sys.stderr)
                try:
                    with tempfile.TemporaryDirectory(dir=folder) as own:
                        _measure(kind, options, number == 0, Path(own), report)
                finally:
                    report.save()
    print(render(report.content))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument(
        "--rows", choices=("all", "goals", "quick"), default="all", help="quick: with Node only"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a plain load lasts")
    parser.add_argument("--only", nargs="*", help="only servers whose name contains one of these")
    parser.add_argument("--json", type=Path, help="write all figures to this file, after every server")
    parser.add_argument("--folder", default=".", help="where the data goes: on the disk that is meant")
    parser.add_argument("--skip-large", action="store_true", help="leave out 1 GB streams and 100k streams")
    return parser.parse_args(arguments)


def _versions() -> str:
    node, commit = _said("node", "--version"), _said("git", "rev-parse", "--short", "HEAD")
    return f"Servers: ours at commit {commit}; reference {NODE_VERSION} on Node {node}; Rust {RUST_VERSION}"


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    except OSError:
        return "unknown"


def _kinds(options: argparse.Namespace, report: Report) -> list[Kind]:
    """The servers that can be had; the others are noted as missing."""
    found: list[Kind] = []
    for name, make in (QUICK if options.rows == "quick" else ALL).items():
        if options.only and not any(part in name for part in options.only):
            continue
        try:
            found.append(make())
        except (Missing, OSError) as reason:
            report.miss(name, reason)
    return found


def _measure(kind: Kind, options: argparse.Namespace, first: bool, folder: Path, report: Report) -> None:
    large = not options.skip_large
    for group in groups(kind, options.rows, first, large):
        _run_group(kind, group, options.seconds, folder / group.name, report)
    if first and large and kind.keeps and options.rows == "all":
        _time_start(kind, folder / "many", report)


def _run_group(kind: Kind, group: Group, seconds: float, folder: Path, report: Report) -> None:
    data = folder / "data"
    data.mkdir(parents=True)
    try:
        with running(kind, data, group.slow_sync_us) as server:
            for _ in range(group.repeats):
                for row, load in group.rows.items():
                    try:
                        report.add(kind.name, row, load(server, seconds, folder))
                    except Exception as exc:
                        report.miss(f"{kind.name}: {row}", exc)
    except Missing as reason:
        report.miss(f"{kind.name}: {group.name} rows", reason)


def _time_start(kind: Kind, folder: Path, report: Report) -> None:
    data = folder / "data"
    data.mkdir(parents=True)
    try:
        with running(kind, data) as server:
            create_many(server, MANY_STREAMS, CREATE_SECONDS_MAX, folder)
        with running(kind, data) as server:
            figures = {
                "seconds to the first answer": server.start_s,
                "MB in memory": server.rss_bytes() / 1e6,
            }
            report.add(kind.name, START_MANY, figures)
    except Exception as exc:
        report.miss(f"{kind.name}: {START_MANY}", exc)


if __name__ == "__main__":
    sys.exit(main())
