"""A real gunicorn with a given worker class and the small application, on a free loopback port."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent.socket

from tests.servers import ROOT
from tests.worker.in_process import Answer, answers_in

STREAM_WORKER = "durable_streams.worker.StreamWorker"
START_S_MAX = 180.0
END_S_MAX = 120.0
POLL_S = 0.02
LISTENING = re.compile(r"Listening at: https?://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Gunicorn:
    """A running gunicorn."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def notes(self) -> list[str]:
        """What the application has noted."""
        path = self.folder / "notes"
        return path.read_text().split() if path.exists() else []

    def connect(self) -> Any:
        """A connection that cooperates with the greenlets of the test."""
        return gevent.socket.create_connection(("127.0.0.1", self.port), timeout=END_S_MAX)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(END_S_MAX)


@contextmanager
def gunicorn(folder: Path, *options: str, worker: str = STREAM_WORKER) -> Iterator[Gunicorn]:
    """Ends it by force when the block has not ended it."""
    command = [sys.executable, "-m", "gunicorn", "-k", worker, "--bind", "127.0.0.1:0", "--keep-alive", "75"]
    command += ["--no-control-socket", *options, "tests.worker.served_app:app"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DS_")}
    environ |= {"NOTES": str(folder / "notes"), "GUNICORN_CMD_ARGS": "", "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("wb") as log:
        # Not in the project's own folder, whose gunicorn.conf.py would be read.
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        yield Gunicorn(process, _port_of(process, folder / "log"), folder)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """The process tells nobody when it listens, so its log has to be looked at."""
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline and process.poll() is None:
        found = LISTENING.search(log.read_text())
        if found:
            return int(found[1])
        time.sleep(POLL_S)
    raise AssertionError(f"gunicorn has not started:\n{log.read_text()}")


def with_tls(sock: Any, authority: Path) -> Any:
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority)
    return context.wrap_socket(sock, server_hostname="127.0.0.1")


def receive_all(sock: Any) -> bytes:
    """Until the server closes; a reset is an error here."""
    seen = b""
    while data := sock.recv(65_536):
        seen += data
    return seen


def ask(sock: Any, request: bytes) -> Answer:
    """One answer with a length, on a connection that goes on; raises ConnectionError when it ends instead."""
    sock.sendall(request)
    seen = b""
    while not _is_whole(seen):
        data = sock.recv(65_536)
        if not data:
            raise ConnectionError(f"ended after {seen!r}")
        seen += data
    (answer,) = answers_in(seen)
    return answer


def _is_whole(seen: bytes) -> bool:
    head, mark, body = seen.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    return bool(mark) and len(body) >= (int(length[1]) if length else 0)
