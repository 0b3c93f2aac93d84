"""How the server starts, in each of the ways that are promised, and how it refuses to: seen from outside."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme

from tests.conftest import absent
from tests.servers import GUNICORN, ROOT, TlsFiles, free_port, running_server, server_environ

REFUSAL_SECONDS_MAX = 30

pytestmark = pytest.mark.server

WAYS_TO_START = {
    "gunicorn": GUNICORN,
    "console script": (str(Path(sys.executable).parent / "durable-streams-server"),),
    "python -m": (sys.executable, "-m", "durable_streams"),
}


def refused(
    folder: Path, settings: Mapping[str, str], command: tuple[str, ...] = GUNICORN
) -> tuple[int, list[str]]:
    """Start a server that must not start; its exit code and the lines that it said."""
    finished = subprocess.run(
        command,
        cwd=ROOT,
        env=server_environ({"DS_SERVER__PORT": "0", **settings}, folder / "data"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=REFUSAL_SECONDS_MAX,
    )
    return finished.returncode, finished.stdout.splitlines()


def only_refusal(lines: list[str]) -> str:
    """The one line that says why; anything else on the way there would hide it."""
    (line,) = [line for line in lines if re.search(r"\[[a-z_]+\]", line)]
    assert not [line for line in lines if "Traceback" in line or line.startswith("  File")], lines
    return line


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


def test_a_port_in_use_is_named_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        code, lines = refused(tmp_path, {"DS_SERVER__PORT": port})
    assert code != 0
    line = only_refusal(lines)
    assert port in line
    assert "in use" in line


@pytest.mark.parametrize(
    ("settings", "options"),
    [({}, ("--workers", "2")), ({"WEB_CONCURRENCY": "3"}, ())],
    ids=["option", "environment"],
)
def test_several_workers_are_refused_because_storage_lives_in_one_process(
    settings: Mapping[str, str], options: tuple[str, ...], tmp_path: Path
) -> None:
    code, lines = refused(tmp_path, settings, (*GUNICORN[:-1], *options, GUNICORN[-1]))
    assert code != 0
    assert "workers" in only_refusal(lines)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DS_SERVER__PORT", "eighty", ("DS_SERVER__PORT", "eighty")),
        ("DS_SERVER__PROT", "5000", ("DS_SERVER__PROT", "DS_SERVER__PORT")),
        ("DS_STORAGE__MODE", "memroy", ("DS_STORAGE__MODE", "memroy", "memory")),
        ("DS_LIMITS__MAX_READ_BYTES", "0", ("DS_LIMITS__MAX_READ_BYTES", "0", "1")),
    ],
)
def test_a_wrong_setting_stops_the_start(
    name: str, value: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    code, lines = refused(tmp_path, {name: value})
    assert code != 0
    line = only_refusal(lines)
    assert [word for word in words if word not in line] == []


def test_https_is_served_with_the_certificate_that_was_given(tls_files: TlsFiles, tmp_path: Path) -> None:
    with running_server(tmp_path, tls=tls_files) as server:
        assert server.url.startswith("https:")
        assert server.request("PUT", "/v1/stream/secret", b"x", {"Content-Type": "text/plain"}).status == 201
        assert server.request("GET", "/v1/stream/secret").body == b"x"
        assert server.url in server.log


def test_a_certificate_without_its_key_stops_the_start(tls_files: TlsFiles, tmp_path: Path) -> None:
    code, lines = refused(tmp_path, {"DS_TLS__CERT_PATH": str(tls_files.certificate)})
    assert code != 0
    assert "tls.key_path" in only_refusal(lines)


def test_a_missing_certificate_is_named(tls_files: TlsFiles, tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere.pem")
    settings = {"DS_TLS__CERT_PATH": missing, "DS_TLS__KEY_PATH": str(tls_files.key)}
    code, lines = refused(tmp_path, settings)
    assert code != 0
    assert missing in only_refusal(lines)


def test_a_key_of_another_certificate_stops_the_start(tls_files: TlsFiles, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(other)
    settings = {"DS_TLS__CERT_PATH": str(tls_files.certificate), "DS_TLS__KEY_PATH": str(other)}
    code, lines = refused(tmp_path, settings)
    assert code != 0
    assert str(other) in only_refusal(lines)
