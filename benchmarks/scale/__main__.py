"""`make bench-postgres`: what the `postgres` mode costs, in CPU time, against what it should reach.

All rows are measured in turn, round after round, and the median of the rounds is shown: a slow minute of the machine
falls on all of them. CPU time is that of the server's processes and of all of the database's; rates depend on what
else the machine does, and are shown for the model's sake alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.scale.serving import small_requests
from benchmarks.scale.trials import GIBIBYTE, KIBIBYTE, MEBIBYTE
from benchmarks.storage.machine import describe
from tests.postgres.cluster import Cluster, new_schema, programs

Figures = dict[str, Any]

WRITERS: Final = 32
APPENDS: Final = 40_000
LONE_APPENDS: Final = 1_000
MANY_PRODUCERS: Final = 100_000
IDLE_STREAMS: Final = 1_000_000
WORKERS: Final = (1, 2, 4)
DATABASE: Final = "shared_buffers = 1GB\nmax_wal_size = 8GB\ncheckpoint_timeout = 30min\nfsync = on\n"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    found_programs = programs()
    if found_programs is None:
        print("PostgreSQL is not installed: `apt-get install postgresql`", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="bench-postgres-"))
    folder.chmod(0o755)
    (folder / "database").mkdir()
    try:
        cluster = Cluster(folder / "database", found_programs, DATABASE)
        try:
            print("\n".join(describe(folder)), flush=True)
            print(
                f"PostgreSQL: {_version(found_programs)}, synchronous_commit = on, a Unix socket\n",
                flush=True,
            )
            report = _medians(_rounds(cluster, folder, options))
        finally:
            cluster.remove()
    finally:
        shutil.rmtree(folder)
    _print_table(report)
    _print_verdicts(report)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each load over HTTP lasts")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the grown stream")
    parser.add_argument("--streams", type=int, default=IDLE_STREAMS, help="idle streams; 0: leave them out")
    parser.add_argument("--json", help="a file for the medians, which the model reads")
    return parser.parse_args(arguments)


def _version(folder: Path) -> str:
    told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[2]


def _rounds(cluster: Cluster, folder: Path, options: argparse.Namespace) -> list[dict[str, Figures]]:
    """The rows of every round. The grown streams stay for all of them, and the idle ones are made once."""
    grown, idle = new_schema(), {}
    if options.streams:
        idle = {"idle streams": _in_own_process(cluster, "create_idle", new_schema(), options.streams)}
    return [_round(cluster, folder, options, grown) | idle for _ in range(options.rounds)]


def _round(cluster: Cluster, folder: Path, options: argparse.Namespace, grown: str) -> dict[str, Figures]:
    large = int(options.gigabytes * GIBIBYTE)
    own: Callable[..., Figures] = lambda name, schema, *rest: _in_own_process(cluster, name, schema, *rest)  # noqa: E731
    rows = {
        "append, 32 writers": own("append_in_turn", new_schema(), WRITERS, 0, APPENDS),
        "append, 32 writers, a producer each": own("append_in_turn", new_schema(), WRITERS, WRITERS, APPENDS),
        "append, 32 writers, 100,000 producers": own(
            "append_in_turn", new_schema(), WRITERS, MANY_PRODUCERS, APPENDS
        ),
        "append, 1 writer": own("append_in_turn", new_schema(), 1, 0, LONE_APPENDS),
        "append to 1 KB": own("append_to_grown", new_schema(), KIBIBYTE, LONE_APPENDS),
        "append to 1 GB": own("append_to_grown", grown, large, LONE_APPENDS),
        "catch-up": own("catch_up", grown, large // MEBIBYTE * MEBIBYTE),
    }
    for workers in (0, *WORKERS):
        name = _served_by(workers)
        for method, found in small_requests(cluster, workers, options.seconds, folder).items():
            rows[f"{method}, {name}"] = found
    return rows


def _served_by(workers: int) -> str:
    return f"postgres, {workers} worker{'s' * (workers > 1)}" if workers else "memory"


def _in_own_process(cluster: Cluster, name: str, schema: str, *arguments: Any) -> Figures:
    """What the trial `name` returns. Raises RuntimeError with what it wrote when it failed."""
    told = json.dumps([name, [cluster.dsn, schema, cluster.pid, *arguments]])
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale.trial", told], capture_output=True, text=True
    )
    if finished.returncode:
        raise RuntimeError(f"{name} {arguments} failed:\n{finished.stderr}")
    result: Figures = json.loads(finished.stdout)
    return result


def _medians(rounds: Sequence[Mapping[str, Figures]]) -> dict[str, Figures]:
    return {
        row: {key: statistics.median(each[row][key] for each in rounds) for key in rounds[0][row]}
        for row in rounds[0]
    }


def _print_table(report: Mapping[str, Figures]) -> None:
    print("| load | server, CPU us | database, CPU us | a second |\n| --- | --- | --- | --- |")
    for row, found in report.items():
        rate = f"{found['rate']:,.0f}" if "rate" in found else ""
        if row != "catch-up":
            print(f"| {row} | {found['server_us']:.1f} | {found['database_us']:.1f} | {rate} |")


def _print_verdicts(report: Mapping[str, Figures]) -> None:
    print("\nWhat was to be reached:\n")
    for text, value, most in _verdicts(report):
        print(
            f"- {text}: {value:,.2f} of at most {most:,.2f}: {'reached' if value <= most else 'NOT REACHED'}"
        )


def _verdicts(report: Mapping[str, Figures]) -> list[tuple[str, float, float]]:
    """Sentence, figure, the most it may be."""

    def server(row: str) -> float:
        return float(report[row]["server_us"])

    def database(row: str) -> float:
        return float(report[row]["database_us"])

    def both(row: str) -> float:
        return server(row) + database(row)

    pipeline, grown = "append, 32 writers, a producer each", "append to 1 GB"
    found = [
        ("append through the pipeline, server us", server(pipeline), 25.0),
        ("append through the pipeline, database us", database(pipeline), 20.0),
        ("100,000 producers to 32", both("append, 32 writers, 100,000 producers") / both(pipeline), 1.5),
        ("append to 1 GB to 1 KB", both(grown) / both("append to 1 KB"), 1.2),
        ("catch-up, us of a core a MB", 1e6 / report["catch-up"]["mb_per_core_s"], 1e6 / 200),
    ]
    for method, most_database_us in (("POST", 60.0), ("GET", 15.0)):
        one, two = (f"{method}, {_served_by(workers)}" for workers in (1, 2))
        found += [
            (f"small {method}, server to memory mode", server(one) / server(f"{method}, memory"), 1.5),
            (f"small {method}, database us", database(one), most_database_us),
            (f"small {method}, two workers without affinity to one", both(two) / both(one), 1.5),
        ]
    if "idle streams" in report:
        found.append(("a million streams, MB", report["idle streams"]["bytes"] / 1e6, 400.0))
    return found


if __name__ == "__main__":
    sys.exit(main())
