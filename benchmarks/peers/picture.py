"""The main figures as one picture: bars of the rate a second, a group a load, each scaled to its fastest server.

python -m benchmarks.peers.picture RESULTS.json PICTURE.svg
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from statistics import median

SHOWN = (
    "POST 100 B, 32 connections",
    "GET 100 B, 32 connections",
    "POST 100 B, 32 connections (sync + 2 ms)",
    "SSE 1000 readers, saturated",
    "catch-up 100 MB, bytes (MB/s)",
)
COLOURS = {"ours": "#2a6fdb", "node": "#6aa84f", "rust": "#b7410e", "caddy": "#00a2a2"}
LABEL_WIDTH, BAR_WIDTH, BAR_HEIGHT, GAP = 170, 480, 16, 5


def draw(results: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """An SVG document."""
    parts: list[str] = []
    y = 10
    for load in SHOWN:
        rates = {
            kind: median(figures["rate"] for figures in own[load])
            for kind, own in results.items()
            if load in own
        }
        if not rates:
            continue
        y += 22
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{escape(load)}</text>')
        y += 8
        for kind, rate in sorted(rates.items(), key=lambda item: -item[1]):
            parts.append(_bar(kind, rate, max(rates.values()), y))
            y += BAR_HEIGHT + GAP
    width = LABEL_WIDTH + BAR_WIDTH + 110
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 10}" '
        f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _bar(kind: str, rate: float, fastest: float, y: int) -> str:
    length = max(1.0, BAR_WIDTH * rate / fastest)
    colour = COLOURS[kind.partition(" ")[0]]
    baseline = y + BAR_HEIGHT - 4
    return (
        f'<text x="{LABEL_WIDTH - 8}" y="{baseline}" text-anchor="end">{escape(kind)}</text>'
        f'<rect x="{LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT}" fill="{colour}"/>'
        f'<text x="{LABEL_WIDTH + length + 6:.1f}" y="{baseline}">{rate:,.0f}</text>'
    )


def main() -> int:
    source, target = sys.argv[1:3]
    Path(target).write_text(draw(json.loads(Path(source).read_text())["results"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
