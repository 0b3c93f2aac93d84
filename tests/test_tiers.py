"""Every test is in one tier, and what the runs promise of themselves holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT
from tests.tiers import APART, FAST, LONG, SLOWEST_FIRST, TESTS, Tier, tier_of
from tests.watching import files_below


def test_every_row_names_what_is_there() -> None:
    rows = {*FAST, *LONG, *SLOWEST_FIRST, *APART}
    assert [row for row in rows if not (TESTS / row).exists()] == []
    assert not FAST & LONG


def test_this_run_has_put_every_test_into_one_tier(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        marked = {mark.name for mark in item.iter_markers() if mark.name in set(Tier)}
        assert marked == {tier_of(item)}, item.nodeid


def run(folder: Path, text: str, *options: str, ci: str = "") -> subprocess.CompletedProcess[str]:
    """pytest over one module in a checkout of its own, which has this one's way of running tests."""
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    tests = folder / "tests"
    tests.mkdir()
    for name in ("__init__.py", "conftest.py", "servers.py", "tiers.py", "watching.py"):
        (tests / name).write_bytes((TESTS / name).read_bytes())
    (tests / "test_something.py").write_text(text)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "CI"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    return subprocess.run(
        command, cwd=folder, env=environ | {"CI": ci}, capture_output=True, text=True, timeout=240
    )


@pytest.mark.parametrize("processes", ["0", pytest.param("2", marks=pytest.mark.long)])
def test_a_failure_is_named_with_its_reason_as_it_happens(processes: str, tmp_path: Path) -> None:
    text = "def test_first():\n    assert 1 + 1 == 3\n\ndef test_second():\n    pass\n"
    finished = run(tmp_path, text, "-n", processes)
    assert finished.returncode == 1
    before_reports = finished.stdout.partition("= FAILURES =")[0]
    assert re.search(
        r"FAILED tests/test_something\.py::test_first \(call\): .*assert \(1 \+ 1\) == 3", before_reports
    )


WRITING = "from pathlib import Path\ndef test_it():\n    Path('left-behind').write_text('')\n"


@pytest.mark.parametrize(("ci", "code"), [pytest.param("", 0, marks=pytest.mark.long), ("true", 1)])
def test_a_file_that_a_test_leaves_in_the_checkout_is_named(ci: str, code: int, tmp_path: Path) -> None:
    finished = run(tmp_path, WRITING, ci=ci)
    assert "changed during the run: left-behind" in finished.stdout
    assert finished.returncode == code


def test_a_run_that_writes_nothing_says_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    text = "from hypothesis import given, strategies\n@given(strategies.binary())\ndef test_it(data):\n    pass\n"
    finished = run(tmp_path, text, ci="true")
    assert finished.returncode == 0, finished.stdout
    assert "changed during the run" not in finished.stdout
    kept = {"pyproject.toml", "tests/test_something.py"}
    assert kept <= {path for path, _ in files_below(tmp_path)}
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("pyproject.toml", "tests")] == []


@pytest.mark.long
@pytest.mark.parametrize("tier", list(Tier))
def test_a_tier_is_chosen_by_its_marker(tier: Tier, tmp_path: Path) -> None:
    text = "import pytest\n\ndef test_a():\n    pass\n\n@pytest.mark.long\ndef test_b():\n    pass\n"
    finished = run(tmp_path, text, "-m", tier, "--collect-only", "-q")
    found = re.findall(r"::(test_[ab])", finished.stdout)
    assert found == {Tier.FAST: [], Tier.STANDARD: ["test_a"], Tier.LONG: ["test_b"]}[tier]
