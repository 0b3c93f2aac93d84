"""`make bench` and `make bench-quick`: this server against its peers, one at a time on one core.

The servers are started in turn, round after round, so that a slow minute of the machine falls on all of them. Printed
is the median over the rounds with its spread, CPU a request, and the ratio to this server in memory mode, or to its
fastest durable mode among the durable ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import loads
from benchmarks.peers.servers import Kind, Missing, caddy, node, ours, running, rust
from benchmarks.peers.table import render
from benchmarks.storage.machine import describe

SLOW_SYNC_US = 2000
MANY_STREAMS = 100_000

Load = Callable[..., loads.Figures]
Results = dict[str, dict[str, list[loads.Figures]]]

QUICK_LOADS: dict[str, Load] = {
    "POST 100 B, 32 connections": loads.posts(32, 1),
    "GET 100 B, 32 connections": loads.gets(32),
    "SSE 1000 readers, saturated": loads.fan_out(1000, 100, 0),
}
LOADS: dict[str, Load] = {
    "POST 100 B, 1 connection": loads.posts(1, 1),
    "POST 100 B, 32 connections": loads.posts(32, 1),
    "POST 100 B, 256 connections": loads.posts(256, 1),
    "POST 100 B, 32 connections, 256 streams": loads.posts(32, 256),
    "POST 100 B, 256 connections, 256 streams": loads.posts(256, 256),
    "GET 100 B, 32 connections": loads.gets(32),
    "GET 100 B, 256 connections": loads.gets(256),
    "HEAD, 32 connections": loads.gets(32, "HEAD"),
    "POST 100 JSON messages, 32 connections": loads.posts(32, 1, loads.BATCH, "application/json"),
    "POST 1 MB, 4 connections": loads.posts(4, 1, b"x" * loads.MIB),
    "catch-up 100 MB, bytes (MB/s)": loads.catch_up(100 * loads.MIB, "application/octet-stream"),
    "catch-up 100 MB, JSON (MB/s)": loads.catch_up(100 * loads.MIB, "application/json"),
    "long-poll round trip": loads.long_poll,
    "SSE 100 readers, saturated": loads.fan_out(100, 300, 0),
    "SSE 1000 readers, saturated": loads.fan_out(1000, 100, 0),
    "SSE 5000 readers, saturated": loads.fan_out(5000, 40, 0),
    "SSE 1000 readers, 2 appends/s": loads.fan_out(1000, 10, 2),
    "SSE 5000 readers, 2 appends/s": loads.fan_out(5000, 10, 2),
    "append to a stream of 1 KB": loads.at_size(1000),
    "append to a stream of 1 MB": loads.at_size(1000_000),
}
SLOW_LOADS: dict[str, Load] = {
    "POST 100 B, 32 connections (sync + 2 ms)": loads.posts(32, 1),
    "POST 100 B, 256 connections, 256 streams (sync + 2 ms)": loads.posts(256, 256),
}
LARGE_LOADS: dict[str, Load] = {"append to a stream of 1 GB": loads.at_size(1000_000_000)}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    missing: dict[str, str] = {}
    kinds = _kinds(options.quick, missing)
    if options.only:
        kinds = [kind for kind in kinds if any(part in kind.name for part in options.only)]
    with tempfile.TemporaryDirectory(prefix=".bench-peers-", dir=options.folder) as name:
        folder = Path(name)
        lines = describe(folder)
        results: Results = {}
        for number in range(options.rounds):
            for kind in kinds:
                print(f"round {number + 1} of {options.rounds}: {kind.name}", file=sys.stderr, flush=True)
                _measure(kind, options, folder / f"{number}-{kind.name.replace(' ', '-')}", results, missing)
    report: dict[str, Any] = {"machine": lines, "missing": missing, "results": results}
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1))
    print(render(report))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Node and this server only, three loads")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a plain load lasts")
    parser.add_argument("--only", nargs="*", help="only servers whose name contains one of these")
    parser.add_argument("--json", help="write all figures to this file")
    parser.add_argument("--folder", default=".", help="where the data goes: on the disk that is meant")
    parser.add_argument("--skip-large", action="store_true", help="leave out 1 GB streams and 100k streams")
    return parser.parse_args(arguments)


def _kinds(quick: bool, missing: dict[str, str]) -> list[Kind]:
    makers: list[tuple[str, Callable[[], Kind]]] = [
        ("ours memory", lambda: ours("memory")),
        ("node memory", lambda: node(file_store=False)),
        ("ours file-durable", lambda: ours("file-durable")),
        ("node file", lambda: node(file_store=True)),
    ]
    if not quick:
        makers += [
            ("ours file-fast", lambda: ours("file-fast")),
            ("ours acid", lambda: ours("acid")),
            ("rust memory", lambda: rust("memory")),
            ("rust file-durable", lambda: rust("file-durable")),
            ("rust acid", lambda: rust("acid")),
            ("caddy memory", caddy),
        ]
    found: list[Kind] = []
    for name, make in makers:
        try:
            found.append(make())
        except Missing as reason:
            missing[name] = str(reason)
    return found


def _measure(
    kind: Kind, options: argparse.Namespace, folder: Path, results: Results, missing: dict[str, str]
) -> None:
    folder.mkdir(parents=True)
    own = results.setdefault(kind.name, {})
    table = QUICK_LOADS if options.quick else LOADS
    _run_loads(kind, table, options.seconds, folder, own, missing)
    if options.quick:
        return
    if kind.durable:
        _run_loads(kind, SLOW_LOADS, options.seconds, folder / "slow", own, missing, SLOW_SYNC_US)
    if not options.skip_large:
        _run_loads(kind, LARGE_LOADS, options.seconds, folder / "large", own, missing)
        if kind.keeps:
            _time_start(kind, folder / "many", own, missing)


def _run_loads(
    kind: Kind,
    table: dict[str, Load],
    seconds: float,
    folder: Path,
    own: dict[str, list[loads.Figures]],
    missing: dict[str, str],
    slow_sync_us: int = 0,
) -> None:
    data = folder / "data"
    data.mkdir(parents=True)
    try:
        with running(kind, data, slow_sync_us) as server:
            for name, load in table.items():
                try:
                    own.setdefault(name, []).append(load(server, seconds, folder))
                except Exception as exc:
                    missing[f"{kind.name}: {name}"] = f"{type(exc).__name__}: {exc}"
    except Missing as reason:
        missing[kind.name] = str(reason)


def _time_start(
    kind: Kind, folder: Path, own: dict[str, list[loads.Figures]], missing: dict[str, str]
) -> None:
    data = folder / "data"
    data.mkdir(parents=True)
    try:
        with running(kind, data) as server:
            loads.create_many(server, MANY_STREAMS)
        with running(kind, data) as server:
            own.setdefault("start with 100k streams", []).append(
                {"p50_ms": server.start_s * 1e3, "rss_mb": server.rss_bytes() / 1e6}
            )
    except Exception as exc:
        missing[f"{kind.name}: start with 100k streams"] = f"{type(exc).__name__}: {exc}"


if __name__ == "__main__":
    sys.exit(main())
