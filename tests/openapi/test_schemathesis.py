"""Schemathesis asks the running server whatever its document allows, and more, and compares the answers with it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import running_server

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "10"))
"""Of each operation."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
SETTINGS = {
    "DS_ADMIN__ENABLED": "true",
    "DS_METRICS__ENABLED": "true",
    "DS_SERVER__LONG_POLL_TIMEOUT_SECS": "0.05",
    "DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "0.05",
    "DS_SUBSCRIPTIONS__ALLOW_OPEN_CLAIMS": "true",
}
SECONDS_MAX = 1500
"""Only so that a run that hangs ends."""

pytestmark = pytest.mark.server


@pytest.mark.timeout(SECONDS_MAX + 100)
@pytest.mark.parametrize("mode", ["memory", "file-durable"])
def test_the_server_answers_as_its_document_says(mode: str, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    with running_server(tmp_path, {**SETTINGS, "DS_STORAGE__MODE": mode}) as server:
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{server.url}/openapi.json",
            f"--checks={','.join(CHECKS)}",
            "--phases=examples,coverage,fuzzing",
            f"--max-examples={EXAMPLES}",
            f"--seed={seed}",
            "--suppress-health-check=all",
            "--continue-on-failure",
            "--request-timeout=60",
            "--warnings=off",
            "--no-color",
        ]
        finished = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
        assert finished.returncode == 0, f"seed {seed}\n{finished.stdout[-20000:]}{finished.stderr[-2000:]}"
        assert "Traceback" not in server.log
