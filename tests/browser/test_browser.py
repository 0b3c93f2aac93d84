"""What a real browser makes of the server's headers: programs for Chromium, one a subject, against a real server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.servers import running_server

HERE = Path(__file__).resolve().parent
BROWSER_SECONDS_MAX = 300
"""Only so that a hanging browser ends; nothing here waits for a time to pass."""

pytestmark = [pytest.mark.server, pytest.mark.node]


@pytest.mark.parametrize("program", ["cached_tail", "finished_stream", "stored_pages"])
def test_in_a_browser(program: str, node: str, browser: str, tmp_path: Path) -> None:
    # Event streams end soon, so that a page that goes on has come back by itself.
    with running_server(tmp_path, {"DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "0.5"}) as server:
        finished = subprocess.run(
            [node, str(HERE / f"{program}.mjs"), server.url, browser],
            capture_output=True,
            text=True,
            timeout=BROWSER_SECONDS_MAX,
        )
        assert finished.stdout == "all seen\n", f"{finished.stdout}{finished.stderr}\n{server.log}"
