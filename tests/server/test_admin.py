"""The admin API at the real server: connections, a start that is refused, and lists that several workers share."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from durable_streams.startup import ExitCode
from tests.servers import GUNICORN, ROOT, Server, ServerKind, running_server, server_environ, usual_params

TEXT = {"Content-Type": "text/plain"}
ENABLED = {"DS_ADMIN__ENABLED": "true"}

pytestmark = pytest.mark.server


def ask(server: Server, path: str) -> Any:
    answer = server.request("GET", path)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_the_worker_tells_its_connections(tmp_path: Path) -> None:
    with running_server(tmp_path, ENABLED) as server:
        connection = server.connect()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        assert ask(server, "/admin/server")["connections"]["now"] == 2
        connection.close()


def test_a_start_for_everybody_without_access_control_is_refused(tmp_path: Path) -> None:
    finished = subprocess.run(
        GUNICORN,
        cwd=ROOT,
        env=server_environ(ENABLED | {"DS_SERVER__HOST": "0.0.0.0", "DS_SERVER__PORT": "0"}, tmp_path),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert finished.returncode == ExitCode.CONFIGURATION
    (line,) = finished.stderr.splitlines()
    assert "admin.enabled" in line


@pytest.mark.parametrize("kind", usual_params("postgres-3-workers"))
def test_streams_are_listed_closed_and_deleted_in_every_mode(kind: ServerKind, tmp_path: Path) -> None:
    with running_server(tmp_path, {**kind.environ, **ENABLED}) as server:
        names = [f"a/{number:03}" for number in range(150)]
        for name in [*names, "b"]:
            assert server.request("PUT", f"/v1/stream/{name}", b"x", TEXT).status == 201
        first = ask(server, "/admin/streams?prefix=a/")
        rest = ask(server, f"/admin/streams?prefix=a/&after={first['next']}")
        assert [stream["name"] for stream in first["streams"] + rest["streams"]] == names
        assert {stream["bytes"] for stream in first["streams"]} == {1}
        closing = server.request(
            "PATCH", "/admin/streams/b", b'{"closed":true}', {"Content-Type": "application/json"}
        )
        assert json.loads(closing.body)["closed"] is True
        dry = json.loads(server.request("DELETE", "/admin/streams?prefix=a/").body)
        assert (dry["matched"], dry["bytes"]) == (150, 150)
        done = json.loads(server.request("DELETE", "/admin/streams?prefix=a/&confirm=150").body)
        assert (done["deleted"], done["failed"]) == (150, {})
        assert [stream["name"] for stream in ask(server, "/admin/streams")["streams"]] == ["b"]
