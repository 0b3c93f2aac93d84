"""Starts that are refused: one line on standard error that says why, and an exit code that has a name.

Each is tried by the console script's module and by `gunicorn -c gunicorn.conf.py`, since both are promised.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from durable_streams.startup import ExitCode, Phase
from tests.servers import GUNICORN, ROOT, server_environ

pytestmark = pytest.mark.server

SCRIPT = (sys.executable, "-m", "durable_streams")
COMMANDS = {"gunicorn": GUNICORN, "script": SCRIPT}
# One way to refuse stands behind both commands: `make test` asks one of them for every row of the table.
both_commands_in_the_end = pytest.mark.parametrize(
    "command",
    [pytest.param(GUNICORN, id="gunicorn"), pytest.param(SCRIPT, id="script", marks=pytest.mark.long)],
)
both_commands = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())

# settings, exit code, phase, what the line says
REFUSALS = [
    ({"DS_SERVER__PORT": "http"}, ExitCode.CONFIGURATION, Phase.VALIDATE_CONFIG, "DS_SERVER__PORT = 'http'"),
    ({"DS_PROFILE": "nowhere"}, ExitCode.CONFIGURATION, Phase.LOAD_CONFIG, "config/nowhere.toml"),
    ({"DS_CONFIG": "/nonexistent.toml"}, ExitCode.CONFIGURATION, Phase.LOAD_CONFIG, "/nonexistent.toml"),
    (
        {"DS_TLS__CERT_PATH": "/nonexistent.pem", "DS_TLS__KEY_PATH": "/nonexistent.pem"},
        ExitCode.CONFIGURATION,
        Phase.CHECK_TLS_FILES,
        "tls.cert_path = '/nonexistent.pem': TLS file not found",
    ),
    (
        {"DS_TLS__CERT_PATH": __file__, "DS_TLS__KEY_PATH": __file__},
        ExitCode.CONFIGURATION,
        Phase.BUILD_TLS_CONTEXT,
        "holds no certificate in PEM form",
    ),
    ({"WEB_CONCURRENCY": "2"}, ExitCode.CONFIGURATION, Phase.VALIDATE_CONFIG, "workers = 2"),
    ({"WEB_CONCURRENCY": "0"}, ExitCode.CONFIGURATION, Phase.VALIDATE_CONFIG, "workers = 0"),
    ({"DS_SERVER__HOST": "192.0.2.1"}, ExitCode.CANNOT_LISTEN, Phase.BIND_LISTENER, "192.0.2.1:"),
    ({"DS_SERVER__HOST": "host.invalid"}, ExitCode.CANNOT_LISTEN, Phase.BIND_LISTENER, "host.invalid:"),
]


def refused(command: Sequence[str], settings: dict[str, str], data_dir: Path) -> tuple[int, str]:
    """The exit code and the one line of a start that fails."""
    chosen = {"DS_SERVER__PORT": "0"} | settings
    ended = subprocess.run(
        command, cwd=ROOT, env=server_environ(chosen, data_dir), capture_output=True, text=True, timeout=180
    )
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.returncode, ended.stderr


@both_commands_in_the_end
@pytest.mark.parametrize(("settings", "code", "phase", "words"), REFUSALS, ids=lambda value: str(value)[:30])
def test_a_refused_start_is_one_line_with_its_phase(
    command: tuple[str, ...],
    settings: dict[str, str],
    code: ExitCode,
    phase: Phase,
    words: str,
    tmp_path: Path,
) -> None:
    returned, line = refused(command, settings, tmp_path)
    assert returned == code
    assert f"[{phase}] " in line
    assert f"startup_phase={phase}" in line
    assert words in line


# settings of the console script alone: gunicorn itself reads the variables before this server can
REFUSALS_OF_THE_SCRIPT = [
    ({"WEB_CONCURRENCY": "x"}, "WEB_CONCURRENCY = 'x': must be a whole number"),
    ({"GUNICORN_CMD_ARGS": "--workers=2"}, "workers = 2"),
    ({"GUNICORN_CMD_ARGS": "--config=mine.py"}, "GUNICORN_CMD_ARGS names a file of settings"),
    ({"GUNICORN_CMD_ARGS": "mine:app"}, "GUNICORN_CMD_ARGS names a file of settings or an application"),
]


@pytest.mark.parametrize(("settings", "words"), REFUSALS_OF_THE_SCRIPT, ids=lambda value: str(value)[:30])
def test_what_the_environment_says_to_gunicorn_is_checked(
    settings: dict[str, str], words: str, tmp_path: Path
) -> None:
    returned, line = refused(SCRIPT, settings, tmp_path)
    assert returned == ExitCode.CONFIGURATION
    assert words in line


@both_commands
def test_a_port_in_use_is_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        returned, line = refused(command, {"DS_SERVER__PORT": str(port)}, tmp_path)
    assert returned == ExitCode.CANNOT_LISTEN == 69
    assert f"cannot listen on 127.0.0.1:{port}: the port is in use by another process" in line


@both_commands
def test_a_storage_that_cannot_be_opened_is_one_line_that_names_the_setting(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").touch()
    returned, line = refused(command, {"DS_STORAGE__MODE": "acid"}, tmp_path)
    assert returned == ExitCode.WORKER_NOT_STARTED == 3
    assert f"[open_storage] storage.data_dir = '{tmp_path}': {tmp_path} holds 'thesis.txt'" in line
    assert "(from environment variable DS_STORAGE__DATA_DIR)" in line


def test_a_data_directory_that_is_none_is_refused_in_the_form_of_the_log(tmp_path: Path) -> None:
    taken, file = tmp_path / "taken", tmp_path / "mine.toml"
    taken.touch()
    file.write_text("[storage]\nmode = 'file-durable'\n[log]\nformat = 'json'\n")
    _, line = refused(GUNICORN, {"DS_CONFIG": str(file)}, taken)
    said = json.loads(line)["message"]
    assert f"[open_storage] storage.data_dir = '{taken}': cannot open {taken}: Not a directory" in said


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("-w", "2"), "lives in one process"),
        (("--preload",), "storage opens in the worker"),
        (("-k", "sync"), "live reads need a gevent worker"),
    ],
)
def test_options_of_gunicorn_that_would_break_the_server_are_refused(
    option: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    returned, line = refused((*GUNICORN, *option), {}, tmp_path)
    assert returned == ExitCode.CONFIGURATION
    assert words in line


def test_a_refusal_removes_the_file_with_the_process_number(tmp_path: Path) -> None:
    pid_file = tmp_path / "server.pid"
    refused((*GUNICORN, "-w", "2", "--pid", str(pid_file)), {}, tmp_path)
    assert not pid_file.exists()


@both_commands
def test_a_refusal_is_json_where_the_log_is(command: tuple[str, ...], tmp_path: Path) -> None:
    settings = {"DS_LOG__FORMAT": "json", "RUST_LOG": "off", "DS_SERVER__PORT": "x"}
    _, line = refused(command, settings, tmp_path)
    found = json.loads(line)
    assert found["startup_phase"] == "validate_config"
    assert "DS_SERVER__PORT = 'x'" in found["message"]
