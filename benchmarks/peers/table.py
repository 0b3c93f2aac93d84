"""The figures as tables in Markdown: a load a table, a server a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.peers.servers import ALL

Rounds = Sequence[Mapping[str, float]]
Row = Mapping[str, Rounds]
"""What each server has done in one row, round by round."""

COLUMNS = ("rate", "p50_ms", "p99_ms", "cpu_us", "requests")
HEAD = """\
| server | rate /s | min - max (rounds) | ours is x faster | p50 ms | p99 ms | CPU us | CPU, ours = 1 | |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"""


def render(report: Mapping[str, Any]) -> str:
    """Machine, one table a load, and what could not be measured, with the reason."""
    parts = ["\n".join(f"- {line}" for line in report["machine"])]
    parts += [f"### {name}\n\n{_load(row)}" for name, row in by_row(report).items()]
    if report["missing"]:
        rows = [f"| {what} | {why} |" for what, why in report["missing"].items()]
        parts.append("\n".join(["### Not measured", "", "| what | why |", "| --- | --- |", *rows]))
    return "\n\n".join(parts)


def by_row(report: Mapping[str, Any]) -> dict[str, dict[str, Rounds]]:
    """The results the other way round: row, server, rounds."""
    results = report["results"]
    names = dict.fromkeys(name for own in results.values() for name in own)
    servers = [server for server in ALL if server in results]
    return {
        name: {server: results[server][name] for server in servers if name in results[server]}
        for name in names
    }


def _load(row: Row) -> str:
    lines = [HEAD]
    for server, rounds in row.items():
        rival = rival_of(server, row)
        faster = f"{ratio(row[rival], rounds, 'rate'):.2f}" if rival and "rate" in rounds[0] else ""
        dearer = f"{ratio(rounds, row[rival], 'cpu_us'):.2f}" if rival and "cpu_us" in rounds[0] else ""
        cells = [_cell(rounds, "rate"), _spread(rounds), faster, _cell(rounds, "p50_ms")]
        cells += [_cell(rounds, "p99_ms"), _cell(rounds, "cpu_us"), dearer, _others(rounds)]
        lines.append(f"| {server} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rival_of(server: str, row: Row) -> str:
    """Our mode that makes the same promise as the peer, the faster one where there are two; "" for ours."""
    if server.startswith("ours"):
        return ""
    names = ("ours memory",) if server.endswith("memory") else ("ours file-durable", "ours acid")
    measured = [name for name in names if name in row]
    key = "rate" if measured and "rate" in row[measured[0]][0] else "cpu_us"
    best = max if key == "rate" else min
    return best(measured, key=lambda name: middle(row[name], key), default="")


def ratio(one: Rounds, other: Rounds, key: str) -> float:
    """How many times `one` is `other`: the median over rounds, each of which had its own weather."""
    return median(a[key] / max(b[key], 1e-9) for a, b in zip(one, other, strict=False))


def middle(rounds: Rounds, key: str) -> float:
    return median(figures[key] for figures in rounds)


def number(value: float) -> str:
    """With as many digits as say something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cell(rounds: Rounds, key: str) -> str:
    return number(middle(rounds, key)) if key in rounds[0] else ""


def _spread(rounds: Rounds) -> str:
    if "rate" not in rounds[0]:
        return ""
    rates = [figures["rate"] for figures in rounds]
    return f"{number(min(rates))} - {number(max(rates))} ({len(rates)})"


def _others(rounds: Rounds) -> str:
    """Figures that only some loads have; errors only where there were some."""
    found = []
    for key in rounds[0]:
        worst = max(figures[key] for figures in rounds)
        if key not in COLUMNS and (worst or key not in ("errors", "not delivered")):
            found.append(f"{key} {number(middle(rounds, key))}")
    return ", ".join(found)
