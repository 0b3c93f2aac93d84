"""Tokens at the real server: effective without a restart, and what is wrong with their files at the start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from durable_streams.startup import ExitCode
from tests.servers import GUNICORN, ROOT, Server, running_server, server_environ

TEXT = {"Content-Type": "text/plain"}

pytestmark = pytest.mark.server


def token(path: Path, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", "durable_streams", "token", *arguments],
        cwd=ROOT,
        env=server_environ({"DS_AUTH__TOKENS_PATH": str(path)}, path.parent),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return finished.stdout.strip()


def status(server: Server, secret: str) -> int:
    return server.request(
        "GET", "/v1/stream/a?offset=-1", headers={"Authorization": f"Bearer {secret}"}
    ).status


def test_a_token_works_and_ends_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    settings = {"DS_AUTH__MODE": "tokens", "DS_AUTH__TOKENS_PATH": str(path)}
    with running_server(tmp_path, settings) as server:
        assert server.request("PUT", "/v1/stream/a", b"x", TEXT).status == 401
        secret = token(path, "create", "--name", "one", "--scope", "create read")
        server.await_true(lambda: status(server, secret) == 404)
        bearer = {"Authorization": f"Bearer {secret}"}
        assert server.request("PUT", "/v1/stream/a", b"x", TEXT | bearer).status == 201
        assert status(server, secret) == 200
        token(path, "revoke", "one")
        server.await_true(lambda: status(server, secret) == 401)
        assert secret not in server.log


TOKENS = {"DS_AUTH__MODE": "tokens"}, "DS_AUTH__TOKENS_PATH"
KEYS = {"DS_AUTH__MODE": "jwt"}, "DS_AUTH__JWT_KEYS_PATH"


@pytest.mark.parametrize(
    ("given", "text", "reason"),
    [
        (TOKENS, "not json", "is no file of tokens"),
        (KEYS, "{", "it is no JWK Set"),
        (KEYS, None, "No such file"),
    ],
)
def test_a_file_that_nobody_could_be_let_in_by_is_refused_at_the_start(
    tmp_path: Path, given: tuple[dict[str, str], str], text: str | None, reason: str
) -> None:
    path = tmp_path / "access"
    if text is not None:
        path.write_text(text)
    mode, variable = given
    settings = {**mode, variable: str(path), "DS_SERVER__PORT": "0"}
    finished = subprocess.run(
        GUNICORN,
        cwd=ROOT,
        env=server_environ(settings, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == ExitCode.CONFIGURATION
    (line,) = finished.stderr.splitlines()
    assert variable.removeprefix("DS_").replace("__", ".").lower() in line
    assert reason in line
