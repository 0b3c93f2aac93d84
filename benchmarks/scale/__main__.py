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

from benchmarks.scale.publish import table
from benchmarks.scale.reach import served_by, verdicts
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
            machine = [*describe(folder), _database(found_programs)]
            print("\n".join(machine), "\n", flush=True)
            rows = _medians(_rounds(cluster, folder, options))
        finally:
            cluster.remove()
    finally:
        shutil.rmtree(folder)
    print(table(rows), "\nWhat was to be reached:\n", *verdicts(rows), sep="\n")
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each load over HTTP lasts")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the grown stream")
    parser.add_argument("--streams", type=int, default=IDLE_STREAMS, help="idle streams; 0: leave them out")
    parser.add_argument("--json", help="a file for the medians, which the model reads")
    return parser.parse_args(arguments)


def _database(folder: Path) -> str:
    told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
    return f"PostgreSQL {told.stdout.split()[2]}, synchronous_commit = on, a Unix socket"


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
        name = served_by(workers)
        for method, found in small_requests(cluster, workers, options.seconds, folder).items():
            rows[f"{method}, {name}"] = found
    return rows


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


if __name__ == "__main__":
    sys.exit(main())
