"""docs/storage.md says what the server says, and names only tests that there are."""

from __future__ import annotations

import re

import pytest

from benchmarks.storage.modes import MODES
from durable_streams.storage import modes
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "storage.md").read_text()


@pytest.mark.parametrize("name", modes.MODES)
def test_the_page_has_each_mode_with_the_promise_that_the_server_logs(name: str) -> None:
    mode, _, backend = name.partition(" ")
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{mode}` |")]
    assert [
        row for row in rows if modes.MODES[name].guarantee in row and (not backend or f"`{backend}`" in row)
    ]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[a-z_/]+\.py)`", PAGE))))
def test_every_test_that_the_page_names_exists(path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("document", sorted(set(re.findall(r"\]\(([a-z-]+\.md)\)", PAGE))))
def test_every_page_that_it_refers_to_exists(document: str) -> None:
    assert (ROOT / "docs" / document).is_file()


@pytest.mark.parametrize("mode", MODES)
def test_the_figures_are_there_for_every_mode(mode: str) -> None:
    figures = PAGE.partition("## The figures")[2]
    assert len([line for line in figures.splitlines() if line.startswith(f"| {mode} |")]) >= 8
