"""What is around the process: pauses, a log that nobody reads, a read-only disk, what a killed master leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from durable_streams.telemetry.output import BUFFERED_BYTES_MAX
from tests.conftest import absent
from tests.servers import GUNICORN, ROOT, Server, free_port, running_server, server_environ

pytestmark = pytest.mark.server

SCRIPT = (sys.executable, "-m", "durable_streams")
SILENCE_SECONDS_MAX = 4
TEXT = {"Content-Type": "text/plain"}


def test_a_pause_of_the_whole_process_ends_no_worker(tmp_path: Path) -> None:
    command = (*GUNICORN, "--timeout", str(SILENCE_SECONDS_MAX))
    with running_server(tmp_path, command=command) as server:
        server.request("PUT", "/v1/stream/a", b"kept", TEXT)
        for _ in range(3):
            os.killpg(server.process.pid, signal.SIGSTOP)
            # The pause itself: longer than the worker may be silent.
            time.sleep(SILENCE_SECONDS_MAX + 1)
            os.killpg(server.process.pid, signal.SIGCONT)
            assert server.request("GET", "/v1/stream/a").body == b"kept"
        assert "WORKER TIMEOUT" not in server.log


def test_a_log_that_nobody_reads_does_not_stop_the_server(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        GUNICORN,
        cwd=ROOT,
        env=server_environ({"DS_SERVER__PORT": str(port)}, tmp_path / "data"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        seen = b""
        while b"listening on" not in seen:
            seen += process.stdout.readline()
        server = Server(process, port, tmp_path / "no.log", None)
        agent = {"User-Agent": "x" * 6000}
        # Twice what is kept, beside what the pipe takes.
        for number in range(2 * BUFFERED_BYTES_MAX // 6000):
            assert server.request("PUT", f"/v1/stream/{number}", headers=agent).status == 201
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=180)
        assert process.returncode == 0
        assert b" log lines were dropped: standard output was not read" in rest
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_start_after_a_killed_master_waits_for_the_port(tmp_path: Path) -> None:
    settings = {"DS_SERVER__PORT": str(free_port()), "DS_STORAGE__MODE": "file-durable"}
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    settings["DS_STORAGE__DATA_DIR"] = str(tmp_path / "data")
    with running_server(first, settings) as server:
        server.request("PUT", "/v1/stream/a", b"kept", TEXT)
        server.process.kill()
        server.process.wait()
        with running_server(second, settings) as successor:
            assert successor.request("GET", "/v1/stream/a").body == b"kept"


def test_a_read_only_root_file_system_is_enough(tmp_path: Path) -> None:
    """In a mount namespace of its own, with what every container runtime mounts: a writable /dev/shm."""
    unshare = shutil.which("unshare")
    read_only = "mount --bind / / && mount -o remount,ro,bind / && ! touch /tmp/probe 2>/dev/null"
    command = (unshare or "", "--mount", "sh", "-c")
    if unshare is None or subprocess.run((*command, read_only), capture_output=True).returncode:
        absent("this system does not let a test mount a read-only root")
    start = f"{read_only}; exec {' '.join(SCRIPT)}"
    with running_server(tmp_path, command=(*command, start)) as server:
        assert server.request("PUT", "/v1/stream/a").status == 201
        assert server.terminate() == 0


def test_options_in_the_environment_hold_for_the_console_script(tmp_path: Path) -> None:
    pid_file = tmp_path / "server.pid"
    settings = {"GUNICORN_CMD_ARGS": f"--pid={pid_file}"}
    with running_server(tmp_path, settings, command=SCRIPT) as server:
        assert int(pid_file.read_text()) == server.process.pid
