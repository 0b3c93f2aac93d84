"""`durable-streams-server keys rotate`: on the data of a stopped server, and at a running one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from durable_streams.startup import ExitCode
from tests.servers import ROOT, Server, free_port, running_server, server_environ

pytestmark = pytest.mark.server

DURABLE = {"DS_STORAGE__MODE": "file-durable"}
MEMORY = {"DS_STORAGE__MODE": "memory"}
PUBLISHED = " is published and signs from "
WAITS = " was published before and signs from "


def rotate(folder: Path, settings: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "durable_streams", "keys", "rotate", *arguments],
        cwd=ROOT,
        env=server_environ(settings, folder / "data"),
        capture_output=True,
        text=True,
        timeout=120,
    )


def published(server: Server) -> list[str]:
    return [key["kid"] for key in json.loads(server.request("GET", "/v1/stream/__ds/jwks.json").body)["keys"]]


def test_a_stopped_server_publishes_the_new_key_when_it_is_started(tmp_path: Path) -> None:
    first = rotate(tmp_path, DURABLE)
    assert (first.returncode, first.stderr) == (ExitCode.OK, "")
    kid, _, at = first.stdout.strip().partition(PUBLISHED)
    again = rotate(tmp_path, DURABLE)
    assert (again.returncode, again.stdout) == (ExitCode.OK, f"{kid}{WAITS}{at}\n")
    with running_server(tmp_path, DURABLE) as server:
        assert published(server)[-1] == kid
        assert len(published(server)) == 2
        # It owns the directory now.
        refused = rotate(tmp_path, DURABLE)
        assert (refused.returncode, refused.stdout) == (ExitCode.IN_USE, "")
        assert "--url" in refused.stderr


def test_a_running_server_is_asked_over_http(tmp_path: Path) -> None:
    with running_server(tmp_path, MEMORY) as server:
        (old,) = published(server)
        url = f"{server.url}/v1/stream/"
        new = rotate(tmp_path, MEMORY, "--url", url, "--header", "Authorization: Bearer someone")
        assert (new.returncode, new.stderr) == (ExitCode.OK, "")
        kid, _, at = new.stdout.strip().partition(PUBLISHED)
        assert published(server) == [old, kid]
        again = rotate(tmp_path, MEMORY, "--url", url)
        assert again.stdout == f"{kid}{WAITS}{at}\n"
        elsewhere = rotate(tmp_path, MEMORY, "--url", f"{server.url}/elsewhere")
        assert (elsewhere.returncode, "404" in elsewhere.stderr) == (ExitCode.FAILURE, True)


def test_what_keeps_no_keys_and_who_does_not_answer_is_named(tmp_path: Path) -> None:
    refused = rotate(tmp_path, MEMORY)
    assert refused.returncode == ExitCode.CONFIGURATION
    assert "storage.mode = memory keeps no keys" in refused.stderr
    url = f"http://127.0.0.1:{free_port()}/v1/stream"
    nobody = rotate(tmp_path, MEMORY, "--url", url)
    assert nobody.returncode == ExitCode.FAILURE
    assert f"no answer from {url}" in nobody.stderr
