"""What is given away: the wheel's content, the lock files, and that the two agree with pyproject.toml."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import durable_streams
from tests.servers import ROOT

LOCKS = ("run", "dev", "client")


def pins(group: str) -> dict[str, str]:
    """Package -> version of a lock file, names in their normal form."""
    text = (ROOT / "requirements" / f"{group}.txt").read_text(encoding="utf-8")
    found = re.findall(r"^([A-Za-z0-9_.\-]+)==([^\s;]+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {
        "run": project["project"]["dependencies"],
        "dev": project["dependency-groups"]["dev"],
        "client": project["dependency-groups"]["client"],
    }
    for group, requirements in wanted.items():
        names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", line)[0]).lower() for line in requirements}
        assert names <= pins(group).keys(), f"`make lock` has not been run since {group} changed"


def test_the_tools_and_the_server_agree_on_the_versions_that_they_share() -> None:
    run, dev = pins("run"), pins("dev")
    assert {name: dev[name] for name in run.keys() & dev.keys()} == {
        name: run[name] for name in run.keys() & dev.keys()
    }


@pytest.mark.parametrize("group", LOCKS)
def test_a_lock_names_no_package_index_and_a_hash_for_every_pin(group: str) -> None:
    text = (ROOT / "requirements" / f"{group}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.findall(r"^\s*(?:-i|-f|--index|--extra-index|--find-links|--trusted)", text, re.MULTILINE)
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text)[1:]:
        assert "--hash=sha256:" in entry, entry


def test_the_npm_lock_names_no_registry() -> None:
    lock = json.loads((ROOT / "tests" / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if "integrity" not in package] == []


def test_the_wheel_holds_the_package_its_types_its_licence_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    # A copy, because building leaves folders behind; the tests go along to see that they stay out.
    left_out = shutil.ignore_patterns(
        "__pycache__", "node_modules", ".*", "*.egg-info", "build", "dist", "data"
    )
    shutil.copytree(ROOT, source, ignore=left_out)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--disable-pip-version-check", "--no-index", "--wheel-dir", str(tmp_path), str(source)],
        check=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"durable_streams_server-{durable_streams.__version__}-")
    names = set(_names_in(wheel))
    tops = {name.split("/")[0] for name in names}
    assert tops == {"durable_streams", f"durable_streams_server-{durable_streams.__version__}.dist-info"}
    assert "durable_streams/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    packed = {name for name in names if name.startswith("durable_streams/") and name.endswith(".py")}
    assert packed == {str(path.relative_to(ROOT)) for path in (ROOT / "durable_streams").rglob("*.py")}


def _names_in(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as opened:
        return opened.namelist()
