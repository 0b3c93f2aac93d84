"""The table of docs/security.md has a row with figures for each bomb, as `benchmarks/bombs.py` prints it."""

from __future__ import annotations

import re

import pytest

from benchmarks.bombs import BOMBS, Bomb, Cost, row
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
FIGURES = re.compile(r"\| [\d.]+ [kM]B \| \d+\.\d\d s \| \d+ MiB \|")


def test_a_row_has_what_was_measured() -> None:
    bomb = BOMBS[0]
    assert row(bomb, Cost(1.234, 5 << 20, 10_000_002)) == (
        f"| {bomb.title} | {bomb.status} | 10.0 MB | 1.23 s | 5 MiB | {bomb.stopped_by} |"
    )


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.title)
def test_every_bomb_has_its_row(bomb: Bomb) -> None:
    before, after = f"| {bomb.title} | {bomb.status} ", f" {bomb.stopped_by} |"
    (found,) = (line for line in PAGE.splitlines() if line.startswith(before))
    assert found.endswith(after)
    assert FIGURES.fullmatch(found[len(before) : -len(after)])
