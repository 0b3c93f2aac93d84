"""The curve of docs/scaling.md as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from benchmarks.scale.prediction import DATABASES, WORKERS, Point

COLOURS: Final = {1: "#2a6fdb", 2: "#6aa84f", 4: "#b7410e", 8: "#7a3fa0"}
LEFT, TOP, WIDTH, HEIGHT = 70, 40, 520, 330


def draw(points: Sequence[Point]) -> str:
    """An SVG document: appends a second by workers, both logarithmic, a line a number of databases."""
    rates = [point.rate for point in points]
    low = 10 ** math.floor(math.log10(min(rates)))
    high = 10 ** math.ceil(math.log10(max(rates)))

    def place(workers: float, rate: float) -> tuple[float, float]:
        x = LEFT + WIDTH * math.log(workers) / math.log(WORKERS[-1])
        return x, TOP + HEIGHT * (1 - math.log(rate / low) / math.log(high / low))

    parts = [_text(LEFT, 22, "Appends a second by workers (simulated from measured costs)", bold=True)]
    for workers in WORKERS:
        x, bottom = place(workers, low)
        parts += [_line(x, TOP, x, bottom, "#ddd"), _text(x - 6, bottom + 18, str(workers))]
    rate = low
    while rate <= high:
        x, y = place(1, rate)
        parts += [_line(x, y, x + WIDTH, y, "#ddd"), _text(8, y + 4, f"{rate:,.0f}")]
        rate *= 10
    key = lambda point: (point.affinity, point.databases)  # noqa: E731
    for (affinity, databases), some in groupby(sorted(points, key=key), key):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(point.workers, point.rate) for point in some))
        dashes = "" if affinity else ' stroke-dasharray="5 4"'
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{COLOURS[databases]}" stroke-width="2"{dashes}/>'
        )
    for number, databases in enumerate(DATABASES):
        y = TOP + 14 + 18 * number
        parts.append(_line(LEFT + 12, y - 4, LEFT + 42, y - 4, COLOURS[databases]))
        parts.append(_text(LEFT + 50, y, f"{databases} database{'s' * (databases > 1)}"))
    parts.append(_text(LEFT + 12, TOP + 90, "dashed: any request to any worker"))
    parts.append(_text(LEFT + 12, TOP + 108, "full: hashed by path"))
    width, height = LEFT + WIDTH + 30, TOP + HEIGHT + 40
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _line(x: float, y: float, to_x: float, to_y: float, colour: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}" stroke-width="2"/>'


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{weight}>{text}</text>'
