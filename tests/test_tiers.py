"""Every test is in one tier, and what the runs promise of themselves holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT
from tests.tiers import APART, FAST, LONG, SLOWEST_FIRST, SMALLEST_LAST, TESTS, Tier, tier_of
from tests.watching import files_below


def test_every_row_names_what_is_there() -> None:
    rows = {*FAST, *LONG, *SLOWEST_FIRST, *SMALLEST_LAST, *APART}
    assert [row for row in rows if not (TESTS / row).exists()] == []
    assert not FAST & LONG


def test_this_run_has_put_every_test_into_one_tier(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        marked = {mark.name for mark in item.iter_markers() if mark.name in set(Tier)}
        assert marked == {tier_of(item)}, item.nodeid


def run(
    folder: Path, text: str, *options: str, ci: str = "", temporary: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """pytest over one module in a checkout of its own, which has this one's way of running tests."""
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    tests = folder / "tests"
    tests.mkdir(exist_ok=True)
    for name in ("__init__.py", "conftest.py", "scratch.py", "servers.py", "tiers.py", "watching.py"):
        (tests / name).write_bytes((TESTS / name).read_bytes())
    (tests / "test_something.py").write_text(text)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "CI"))}
    environ |= {"CI": ci} | ({"TMPDIR": str(temporary)} if temporary else {})
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=240)


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


LEAVING = """
import os, signal, tempfile
from pathlib import Path

def test_it(tmp_path, tmp_path_factory):
    for folder in (tmp_path, tmp_path_factory.mktemp("more"), Path(tempfile.mkdtemp())):
        (folder / "mark").write_text("")
"""
KILLED = LEAVING + "    os.kill(os.getpid(), signal.SIGKILL)\n"
TERMINATED = LEAVING + "    os.kill(os.getpid(), signal.SIGTERM)\n"
FAILED = LEAVING + "    assert False\n"


def marks(folder: Path) -> int:
    """How many files the test has left that were made by `LEAVING`."""
    return len(list(folder.glob("**/mark")))


@pytest.mark.parametrize("processes", ["0", pytest.param("2", marks=pytest.mark.long)])
def test_temporary_files_go_with_the_run_unless_it_failed(processes: str, tmp_path: Path) -> None:
    checkout, temporary = tmp_path / "checkout", tmp_path / "temporary"
    checkout.mkdir()
    temporary.mkdir()
    failed = run(checkout, FAILED, "-n", processes, temporary=temporary)
    assert (failed.returncode, marks(temporary)) == (1, 3)
    assert "Kept until the next run begins" in failed.stdout
    assert run(checkout, LEAVING, "-n", processes, temporary=temporary).returncode == 0
    assert [path.name for path in temporary.glob("**/*") if path.is_file()] == ["lock"]


@pytest.mark.long
@pytest.mark.parametrize(("text", "left"), [(KILLED, 3), (TERMINATED, 0)])
def test_the_next_run_removes_what_a_killed_run_has_left(text: str, left: int, tmp_path: Path) -> None:
    checkout, temporary = tmp_path / "checkout", tmp_path / "temporary"
    checkout.mkdir()
    temporary.mkdir()
    assert run(checkout, text, "-p", "no:xdist", temporary=temporary).returncode != 0
    assert marks(temporary) == left
    run(checkout, "def test_it():\n    pass\n", "-p", "no:xdist", temporary=temporary)
    assert marks(temporary) == 0


@pytest.mark.parametrize(("free_kib", "steps"), [(3 << 20, 0), (300 << 20, 3)])
def test_the_checks_begin_only_where_there_is_room(free_kib: int, steps: int, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    df = f"#!/bin/sh\necho Filesystem\necho /dev/disk 999 9 {free_kib} 1% /\n"
    for name, text in {"df": df, "make": "#!/bin/sh\n", "apt-get": "#!/bin/sh\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o700)
    environ = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    command = ["sh", str(ROOT / ".ci" / "run")]
    finished = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    first, *more = finished.stdout.splitlines()
    assert first == f"{tmp_path} has {free_kib >> 20} GB free; the tests need 10 GB."
    assert len([line for line in more if line.startswith("make")]) == steps
    assert (finished.returncode, "too little room" in finished.stderr) == ((0, False) if steps else (1, True))


@pytest.mark.long
@pytest.mark.parametrize("tier", list(Tier))
def test_a_tier_is_chosen_by_its_marker(tier: Tier, tmp_path: Path) -> None:
    text = "import pytest\n\ndef test_a():\n    pass\n\n@pytest.mark.long\ndef test_b():\n    pass\n"
    finished = run(tmp_path, text, "-m", tier, "--collect-only", "-q")
    found = re.findall(r"::(test_[ab])", finished.stdout)
    assert found == {Tier.FAST: [], Tier.STANDARD: ["test_a"], Tier.LONG: ["test_b"]}[tier]
