"""The figures as tables in Markdown: a load a table, a server a row."""

from __future__ import annotations

from statistics import median
from typing import Any

OURS = "ours "


def render(report: dict[str, Any]) -> str:
    """Machine, one table a load, and what could not be measured, with the reason."""
    parts = ["\n".join(f"- {line}" for line in report["machine"])]
    results = report["results"]
    names: list[str] = list(dict.fromkeys(name for own in results.values() for name in own))
    parts += [
        _load(name, {kind: own[name] for kind, own in results.items() if name in own}) for name in names
    ]
    if report["missing"]:
        rows = [f"| {what} | {why} |" for what, why in report["missing"].items()]
        parts.append("\n".join(["### Not measured", "", "| what | why |", "| --- | --- |", *rows]))
    return "\n\n".join(parts)


def _load(name: str, by_kind: dict[str, list[dict[str, float]]]) -> str:
    lines = [
        f"### {name}",
        "",
        "| server | rate /s (min - max) | ours / it | p50 ms | p99 ms | CPU us | other |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for kind, rounds in by_kind.items():
        lines.append(f"| {kind} | {_rate(rounds)} | {_ratio(kind, rounds, by_kind)} | {_row(rounds)} |")
    return "\n".join(lines)


def _row(rounds: list[dict[str, float]]) -> str:
    cells = [_cell(rounds, key) for key in ("p50_ms", "p99_ms", "cpu_us")]
    known = {"rate", "p50_ms", "p99_ms", "cpu_us"}
    others = [key for key in rounds[0] if key not in known and (key != "errors" or _middle(rounds, key))]
    return " | ".join([*cells, ", ".join(f"{key} {_middle(rounds, key):,.0f}" for key in others)])


def _rate(rounds: list[dict[str, float]]) -> str:
    if "rate" not in rounds[0]:
        return ""
    rates = [figures["rate"] for figures in rounds]
    return f"{median(rates):,.0f} ({min(rates):,.0f} - {max(rates):,.0f})"


def _ratio(kind: str, rounds: list[dict[str, float]], by_kind: dict[str, list[dict[str, float]]]) -> str:
    """How many times faster ours is, in the mode that makes the same promise; its best one, where it has two."""
    if kind.startswith(OURS) or "rate" not in rounds[0]:
        return ""
    ours = [rows for name, rows in by_kind.items() if name.startswith(OURS) and _same_promise(name, kind)]
    if not ours:
        return ""
    return f"{max(_middle(rows, 'rate') for rows in ours) / max(_middle(rounds, 'rate'), 1e-9):.2f}"


def _same_promise(name: str, peer: str) -> bool:
    if peer.endswith("memory"):
        return name == "ours memory"
    return name in ("ours file-durable", "ours acid")


def _cell(rounds: list[dict[str, float]], key: str) -> str:
    return f"{_middle(rounds, key):,.2f}" if key in rounds[0] else ""


def _middle(rounds: list[dict[str, float]], key: str) -> float:
    return median(figures.get(key, 0.0) for figures in rounds)
