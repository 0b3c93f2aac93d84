"""`make simulate-scale`: puts what `make bench-postgres` has measured, and what follows from it, into docs/scaling.md.

Rewritten is what stands between the page's two marks, and the picture; the words around them are written by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.publish import BEGIN, END
from benchmarks.peers.servers import ROOT
from benchmarks.scale.curve import draw
from benchmarks.scale.prediction import DATABASES, WORKERS, Point, curve, held_against, write_costs
from benchmarks.scale.reach import verdicts

MEASURED: Final = Path(__file__).with_name("measured.json")
PAGE: Final = ROOT / "docs" / "scaling.md"
PICTURE: Final = PAGE.with_suffix(".svg")


def main() -> int:
    page, picture = published(json.loads(MEASURED.read_text()), PAGE.read_text())
    PAGE.write_text(page)
    PICTURE.write_text(picture)
    return 0


def published(measured: Mapping[str, Any], page: str) -> tuple[str, str]:
    """The page with new figures, and the picture."""
    rows = measured["rows"]
    costs = write_costs(rows)
    points = curve(costs)
    before, _, rest = page.partition(BEGIN)
    parts = [
        "\n".join(f"- {line}" for line in measured["machine"]),
        table(rows),
        "What was to be reached:",
        "\n".join(verdicts(rows)),
        "### Simulated",
        "Predicted from one worker, and measured, in CPU us a `POST`; one worker was fitted:",
        _held_against(held_against(rows, costs)),
        "![Appends a second by workers](scaling.svg)",
        "Appends a second where all requests go to any worker, and where a stream has its worker (in brackets):",
        _rates(points),
        "One database: latency of an append at half of that load, and how many were decided more than once:",
        _latencies([point for point in points if point.databases == 1]),
    ]
    return f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{rest.partition(END)[2]}", draw(points)


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """What each load costs, in Markdown."""
    lines = ["| load | server, CPU us | database, CPU us | a second |", "| --- | ---: | ---: | ---: |"]
    for row, found in rows.items():
        if row == "catch-up":
            lines.append(f"| catch-up, MB/s a core | | | {found['mb_per_core_s']:,.0f} |")
        else:
            rate = f"{found['rate']:,.0f}" if "rate" in found else ""
            lines.append(f"| {row} | {found['server_us']:.1f} | {found['database_us']:.1f} | {rate} |")
    return "\n".join(lines)


def _held_against(found: Sequence[tuple[int, str, float, float]]) -> str:
    lines = ["| workers | of | predicted | measured |", "| ---: | --- | ---: | ---: |"]
    lines += [f"| {workers} | {part} | {said:.0f} | {seen:.0f} |" for workers, part, said, seen in found]
    return "\n".join(lines)


def _rates(points: Sequence[Point]) -> str:
    found = {(point.workers, point.databases, point.affinity): point.rate for point in points}
    names = " | ".join(f"{count} database{'s' * (count > 1)}" for count in DATABASES)
    lines = [f"| workers | {names} |", "| ---: |" + " ---: |" * len(DATABASES)]
    for workers in WORKERS:
        cells = [
            f"{found[workers, databases, False]:,.0f} ({found[workers, databases, True]:,.0f})"
            if workers >= databases
            else ""
            for databases in DATABASES
        ]
        lines.append(f"| {workers} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _latencies(points: Sequence[Point]) -> str:
    lines = ["| workers | any worker: p50, p99 ms | decided again | its worker: p50, p99 ms |"]
    lines.append("| ---: | ---: | ---: | ---: |")
    for workers in WORKERS:
        anybody, own = (point for point in points if point.workers == workers)
        lines.append(
            f"| {workers} | {anybody.p50_ms:.1f}, {anybody.p99_ms:.1f} | {anybody.lost:.0%} "
            f"| {own.p50_ms:.1f}, {own.p99_ms:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
