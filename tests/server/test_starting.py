"""How the server starts, in each of the ways that are promised. Refused starts are in tests/cli/test_refusals.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.servers import GUNICORN, ROOT, TlsFiles, free_port, running_server

pytestmark = pytest.mark.server

WAYS_TO_START = {
    "gunicorn": GUNICORN,
    "console script": (str(Path(sys.executable).parent / "durable-streams-server"),),
    "python -m": (sys.executable, "-m", "durable_streams"),
}


@pytest.mark.parametrize("command", WAYS_TO_START.values(), ids=WAYS_TO_START)
def test_every_way_to_start_serves_and_stops(command: tuple[str, ...], tmp_path: Path) -> None:
    with running_server(tmp_path, command=command) as server:
        health, readiness = server.request("GET", "/healthz"), server.request("GET", "/readyz")
        assert (health.status, health.body.strip()) == (200, b"ok")
        assert (readiness.status, readiness.body.strip()) == (200, b"ready")
        assert server.request("PUT", "/v1/stream/first").status == 201
        assert server.terminate() == 0


def test_the_start_says_where_it_listens_how_it_stores_and_what_that_guarantees(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        (line,) = [line for line in server.log.splitlines() if "listening on" in line]
    assert server.url in line
    assert "memory" in line
    assert "nothing survives a restart" in line


def test_the_procfile_honours_the_port_that_the_platform_gives(tmp_path: Path) -> None:
    kinds = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text(encoding="utf-8").splitlines())
    # The platform puts the environment's programs on the PATH, and starts the line with a shell.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    port = str(free_port())
    settings = {"PATH": path, "PORT": port}
    with running_server(tmp_path, settings, command=("sh", "-c", f"exec env {kinds['web']}")) as server:
        assert server.port == int(port)
        assert server.request("GET", "/healthz").status == 200


def test_make_serve_starts_without_installing_anything_twice(tmp_path: Path) -> None:
    make = shutil.which("make")
    if make is None or subprocess.run([make, "--question", ".venv/run.stamp"], cwd=ROOT).returncode != 0:
        absent("the environment is not as `make test` leaves it")
    assert make is not None
    with running_server(tmp_path, command=(make, "serve")) as server:
        assert server.request("GET", "/readyz").status == 200
        assert "Installing" not in server.log


def test_https_is_served_with_the_certificate_that_was_given(tls_files: TlsFiles, tmp_path: Path) -> None:
    with running_server(tmp_path, tls=tls_files) as server:
        assert server.url.startswith("https:")
        assert server.request("PUT", "/v1/stream/secret", b"x", {"Content-Type": "text/plain"}).status == 201
        assert server.request("GET", "/v1/stream/secret").body == b"x"
        assert server.url in server.log
