"""Puts the figures of a run into the documents: tables, the goals' verdicts, the picture, and the figures themselves.

python -m benchmarks.peers.publish RESULTS.json [MORE.json ...]

A row is taken whole from the first file that has it: figures of two runs are never compared with each other.

Rewritten in docs/benchmarks.md is what stands between its two marks; the words around them are written by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import reach
from benchmarks.peers.picture import draw
from benchmarks.peers.servers import ROOT
from benchmarks.peers.table import render

DOCUMENT = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    report = _merged([json.loads(Path(name).read_text()) for name in sys.argv[1:]])
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    figures = f"## Goals\n\n{reach.render(report)}\n\n## Every figure\n\n{render(report)}"
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}")
    DOCUMENT.with_suffix(".svg").write_text(draw(report))
    DOCUMENT.with_suffix(".json").write_text(json.dumps(_rounded(report), separators=(",", ":")) + "\n")
    return 0


def _merged(reports: list[dict[str, Any]]) -> dict[str, Any]:
    results: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    taken: set[str] = set()
    for report in reports:
        rows = {row for own in report["results"].values() for row in own} - taken
        for server, own in report["results"].items():
            results.setdefault(server, {}).update({row: own[row] for row in own if row in rows})
        missing |= report["missing"]
        taken |= rows
    machine = list(dict.fromkeys(line for report in reports for line in report["machine"]))
    return {"machine": machine, "missing": missing, "results": results}


def _rounded(value: Any) -> Any:
    """Four digits say all that these figures know."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main())
