"""The inspector in a real browser, used as a person does: tests/browser/inspector.mjs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from durable_streams.access.token_file import changing, new_token
from tests.servers import running_server

PROGRAM = Path(__file__).resolve().parent / "inspector.mjs"
SECONDS_MAX = 600
"""Only so that a hanging browser ends; nothing here waits for a time to pass."""

pytestmark = [pytest.mark.server, pytest.mark.node]


@pytest.mark.timeout(SECONDS_MAX + 100)
def test_everything_that_the_inspector_offers(node: str, browser: str, tmp_path: Path) -> None:
    """INSPECTOR_PICTURES names a folder for the screenshots of docs/inspector.md."""
    path = tmp_path / "tokens.json"
    token, record = new_token("person", ["read", "write", "create", "delete", "admin"], ["**"], None)
    with changing(path) as records:
        records.append(record)
    settings = {
        "DS_ADMIN__ENABLED": "true",
        "DS_ADMIN__INSPECTOR": "true",
        "DS_AUTH__MODE": "tokens",
        "DS_AUTH__TOKENS_PATH": str(path),
    }
    with running_server(tmp_path, settings) as server:
        pictures = os.environ.get("INSPECTOR_PICTURES", "")
        finished = subprocess.run(
            [node, str(PROGRAM), server.url, browser, token, pictures],
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
        assert finished.stdout == "all seen\n", f"{finished.stdout}{finished.stderr}\n{server.log}"
