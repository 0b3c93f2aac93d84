"""The official conformance suite, run by vitest against real gunicorn for every kind of server.

Every test has to pass, and none may be left out.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT, Server, running_server, usual_params

LONG_POLL_SECONDS = 2
SUITE_SECONDS_MAX = 280
# The suite's receivers listen on this machine, and its workers have no credentials.
DEVELOPMENT = {
    "DS_SUBSCRIPTIONS__ALLOW_LOCALHOST_WEBHOOKS": "true",
    "DS_SUBSCRIPTIONS__ALLOW_OPEN_CLAIMS": "true",
}
# What the suite of the locked version holds; a shorter report means that tests have gone missing.
TESTS_MIN = 338

pytestmark = [pytest.mark.server, pytest.mark.node]


@pytest.fixture(scope="module", params=usual_params("postgres-3-workers"))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"DS_SERVER__LONG_POLL_TIMEOUT_SECS": str(LONG_POLL_SECONDS), **DEVELOPMENT}
    settings |= request.param.environ
    with running_server(tmp_path_factory.mktemp("conformance"), settings) as running:
        yield running


def test_every_test_of_the_official_suite_passes(server: Server, node: str, tmp_path: Path) -> None:
    tests = _run_suite(node, server.url, tmp_path)
    failed = [f"{_name(test)}\n    {_first_line(test)}" for test in tests if test["status"] == "failed"]
    left_out = [_name(test) for test in tests if test["status"] not in ("passed", "failed")]
    assert not failed, f"{len(failed)} of {len(tests)} failed:\n" + "\n".join(failed)
    assert not left_out, f"not run: {left_out}"
    assert len(tests) >= TESTS_MIN


def _run_suite(node: str, base_url: str, folder: Path) -> list[dict[str, Any]]:
    report_path = folder / "report.json"
    finished = subprocess.run(
        [
            node,
            "node_modules/vitest/vitest.mjs",
            "run",
            "--config=conformance/vitest.config.js",
            "--reporter=json",
            f"--outputFile={report_path}",
        ],
        cwd=ROOT / "tests",
        env=os.environ
        | {
            "CONFORMANCE_BASE_URL": base_url,
            "CONFORMANCE_LONG_POLL_MS": str(LONG_POLL_SECONDS * 1000),
            "CONFORMANCE_CACHE_DIR": str(folder / "vite"),
        },
        capture_output=True,
        text=True,
        timeout=SUITE_SECONDS_MAX,
    )
    assert report_path.exists(), f"vitest left no report:\n{finished.stdout}\n{finished.stderr}"
    report = json.loads(report_path.read_text(encoding="utf-8"))
    files = report["testResults"]
    tests: list[dict[str, Any]] = [test for file in files for test in file["assertionResults"]]
    assert tests, f"vitest ran no test:\n{[file.get('message') for file in files]}\n{finished.stderr}"
    return tests


def _name(test: dict[str, Any]) -> str:
    return " > ".join([*test["ancestorTitles"], test["title"]])


def _first_line(test: dict[str, Any]) -> str:
    messages = test["failureMessages"] or ["no message"]
    return str(messages[0]).splitlines()[0]
