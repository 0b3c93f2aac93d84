"""The console script serves like gunicorn does: where it listens, what it says, how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import GUNICORN, ROOT, TlsFiles, running_server

pytestmark = pytest.mark.server

SCRIPT = (sys.executable, "-m", "durable_streams")
COMMANDS = {"gunicorn": GUNICORN, "script": SCRIPT}
both_commands = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())


@both_commands
def test_one_line_says_where_it_listens_and_what_the_storage_promises(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    with running_server(
        tmp_path, {"RUST_LOG": "info,durable_streams.request=off"}, command=command
    ) as server:
        (line,) = server.log.splitlines()
        assert f"listening on {server.url}, storage memory: nothing survives a restart" in line


@both_commands
def test_https_is_served_where_certificate_and_key_are_set(
    command: tuple[str, ...], tls_files: TlsFiles, tmp_path: Path
) -> None:
    with running_server(tmp_path, tls=tls_files, command=command) as server:
        assert server.request("GET", "/healthz").body == b"ok"
        assert f"listening on https://127.0.0.1:{server.port}," in server.log


@both_commands
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_stop_is_clean_and_logged(command: tuple[str, ...], number: signal.Signals, tmp_path: Path) -> None:
    with running_server(tmp_path, {"DS_LOG__FORMAT": "json"}, command=command) as server:
        # A terminal signals the whole group, the worker too.
        os.killpg(server.process.pid, number)
        assert server.process.wait(30) == 0
        messages = [json.loads(line)["message"] for line in server.log.splitlines()]
    assert messages[-2:] == [f"stopping: {number.name}", "stopped"]
    assert not [message for message in messages if "rror" in message]


def test_a_config_file_of_the_command_line_is_served(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[http]\nstream_base_path = "/mine"\n')
    with running_server(tmp_path, command=(*SCRIPT, "--config", str(file), "serve")) as server:
        assert server.request("PUT", "/mine/a").status == 201


def test_a_request_is_logged_as_one_json_record(tmp_path: Path) -> None:
    settings = {"DS_LOG__FORMAT": "json", "RUST_LOG": "off,durable_streams=info"}
    with running_server(tmp_path, settings) as server:
        server.request("PUT", "/v1/stream/a/b%20c", headers={"User-Agent": "test"})
        server.request("GET", "/v1/stream/missing?offset=-1")
        records = [json.loads(line) for line in server.log.splitlines()]
    created = next(record for record in records if record.get("ds.operation") == "create")
    assert created["ds.stream_id"] == "a/b c"
    assert created["http.response.status_code"] == 201
    assert created["user_agent.original"] == "test"
    assert created["event.duration"] > 0
    missed = next(record for record in records if record.get("http.response.status_code") == 404)
    assert (missed["log.level"], missed["error.type"]) == ("warn", "/errors/not-found")


def test_a_second_worker_asked_for_by_signal_is_refused_with_the_reason(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        server.process.send_signal(signal.SIGTTIN)
        server.await_log("workers = 2: storage mode memory lives in one process")


def test_the_procfile_passes_the_port_on_and_the_workers_where_they_share(tmp_path: Path) -> None:
    """A platform names the port in PORT and may wish for several workers in WEB_CONCURRENCY."""
    stand_in = tmp_path / "gunicorn"
    stand_in.write_text('#!/bin/sh\necho "$DS_SERVER__PORT $WEB_CONCURRENCY $*"\n')
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    process_type, command = (ROOT / "Procfile").read_text().strip().split(": ", 1)
    assert process_type == "web"
    path = f"{tmp_path}:{os.environ['PATH']}"

    def started_with(environ: dict[str, str]) -> str:
        return subprocess.run(
            ["sh", "-c", command], env={"PATH": path, **environ}, capture_output=True, text=True, check=True
        ).stdout

    assert started_with({"PORT": "5001", "WEB_CONCURRENCY": "4"}) == "5001 1 -c gunicorn.conf.py wsgi:app\n"
    assert re.match(r"4437 1 ", started_with({}))
    shared = {"DS_STORAGE__MODE": "postgres"}
    assert re.match(r"4437 1 ", started_with(shared))
    assert re.match(r"4437 4 ", started_with(shared | {"WEB_CONCURRENCY": "4"}))


def test_the_files_that_are_used_or_ignored_are_named_at_the_start(tmp_path: Path) -> None:
    work, folder = tmp_path / "work", tmp_path / "work" / "config"
    folder.mkdir(parents=True)
    (folder / "default.toml").write_text("[database]\nurl = 'postgres://'\n")
    (folder / "local.toml").write_text("[log]\nformat = 'json'\n")
    with running_server(tmp_path, command=(*SCRIPT, "serve"), cwd=work) as server:
        messages = [json.loads(line)["message"] for line in server.log.splitlines()]
    assert messages[:2] == [
        "settings from config/local.toml",
        "config/default.toml is ignored: it has no table of this server",
    ]
