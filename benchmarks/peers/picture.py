"""The main figures as one picture: bars of the rate a second, a group a load, each scaled to its fastest server."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from benchmarks.peers import plan
from benchmarks.peers.table import by_row, middle, number

SHOWN = (
    plan.POST_32,
    plan.GET_32,
    plan.POST_32_SLOW,
    plan.SSE_SATURATED,
    plan.CATCH_UP_BYTES,
)
COLOURS = {"ours": "#2a6fdb", "node": "#6aa84f", "rust": "#b7410e", "caddy": "#00a2a2"}
LABEL_WIDTH, BAR_WIDTH, BAR_HEIGHT, GAP = 190, 480, 16, 5


def draw(report: Mapping[str, Any]) -> str:
    """An SVG document."""
    rows = by_row(report)
    parts: list[str] = []
    y = 10
    for row in (row for row in SHOWN if row in rows):
        y += 22
        unit = "MB/s" if row == plan.CATCH_UP_BYTES else "a second"
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{escape(row)} ({unit})</text>')
        y += 8
        rates = {server: middle(rounds, "rate") for server, rounds in rows[row].items()}
        for server, rate in sorted(rates.items(), key=lambda item: -item[1]):
            parts.append(_bar(server, rate, max(rates.values()), y))
            y += BAR_HEIGHT + GAP
    width = LABEL_WIDTH + BAR_WIDTH + 110
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 10}" '
        f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _bar(server: str, rate: float, fastest: float, y: int) -> str:
    length = max(1.0, BAR_WIDTH * rate / fastest)
    colour = COLOURS[server.partition(" ")[0]]
    baseline = y + BAR_HEIGHT - 4
    return (
        f'<text x="{LABEL_WIDTH - 8}" y="{baseline}" text-anchor="end">{escape(server)}</text>'
        f'<rect x="{LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT}" fill="{colour}"/>'
        f'<text x="{LABEL_WIDTH + length + 6:.1f}" y="{baseline}">{number(rate)}</text>'
    )
