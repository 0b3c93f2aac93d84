"""Starts the real server for a test: gunicorn as a process, on a free loopback port, with its own data.

It decides how a start is awaited and how a server ends; what a test asks of the server is left to the test.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUNICORN = (sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app")

# Only so that a start or a stop that hangs ends; a crowded machine takes many times the usual second.
START_SECONDS_MAX = 180.0
STOP_SECONDS_MAX = 120.0
POLL_SECONDS = 0.02

LISTENING = re.compile(r"[Ll]istening (?:on|at:) https?://[^\s,]*:(\d+)")

T = TypeVar("T")


@dataclass(frozen=True)
class ServerKind:
    """One way of running the server that the outside-in suites are repeated for."""

    name: str
    environ: Mapping[str, str] = field(default_factory=dict)
    is_variant: bool = False
    """Whether it is asked only by `make test-long`."""

    def param(self, *, is_long: bool = False) -> Any:
        """This kind as a parameter of a test or of a fixture."""
        marks = [pytest.mark.long] if self.is_variant or is_long else []
        return pytest.param(self, id=self.name, marks=marks)


# The conformance suite and the clients' runs are repeated for every line of this table.
SERVER_KINDS = (
    ServerKind("memory", {"DS_STORAGE__MODE": "memory"}),
    ServerKind(
        "memory-gevent", {"DS_STORAGE__MODE": "memory", "DS_SERVER__WORKER_CLASS": "gevent"}, is_variant=True
    ),
    # All of it but the order of syncs is file-durable's.
    ServerKind("file-fast", {"DS_STORAGE__MODE": "file-fast"}, is_variant=True),
    ServerKind("file-durable", {"DS_STORAGE__MODE": "file-durable"}),
    ServerKind("acid", {"DS_STORAGE__MODE": "acid"}),
    ServerKind(
        "acid-4-shards",
        {"DS_STORAGE__MODE": "acid", "DS_STORAGE__ACID_SHARD_COUNT": "4"},
        is_variant=True,
    ),
    ServerKind(
        "acid-in-memory",
        {"DS_STORAGE__MODE": "acid", "DS_STORAGE__ACID_BACKEND": "in-memory"},
        is_variant=True,
    ),
    ServerKind("postgres-3-workers", {"DS_STORAGE__MODE": "postgres", "WEB_CONCURRENCY": "3"}),
    ServerKind("postgres", {"DS_STORAGE__MODE": "postgres"}, is_variant=True),
)

USUAL_KIND: Final = "memory"
"""What `make test` runs where the storage makes no difference."""


def usual_params(*more: str) -> list[Any]:
    """Every kind as a parameter; `make test` takes the usual one and ``more``, `make test-long` the others."""
    return [kind.param(is_long=kind.name not in (USUAL_KIND, *more)) for kind in SERVER_KINDS]


@dataclass(frozen=True)
class TlsFiles:
    """A certificate for 127.0.0.1 and localhost, its key, and the authority that a client has to trust.

    ``client``: a PEM file with a key and a certificate that the client shows.
    """

    certificate: Path
    key: Path
    authority: Path
    client: Path | None = None


class ServerDidNotStart(Exception):
    """The process ended, or was not ready in time; the message carries its log."""


class Server:
    """A running server: where it listens, its log, and its process."""

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, log_path: Path, tls: TlsFiles | None
    ) -> None:
        self.process = process
        self.port = port
        self.log_path = log_path
        self.tls = tls
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"

    @property
    def log(self) -> str:
        """All that the process has written so far, on both of its outputs."""
        return _read(self.log_path)

    def connect(self, timeout_s: float = 30.0) -> http.client.HTTPConnection:
        """A connection of http.client, which the caller closes."""
        if self.tls is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        context = ssl.create_default_context(cafile=str(self.tls.authority))
        if self.tls.client is not None:
            context.load_cert_chain(self.tls.client)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout_s, context=context)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own, its answer read to the end."""
        connection = self.connect()
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers.items()), response.read())
        finally:
            connection.close()

    def await_true(self, look: Callable[[], T | None]) -> T:
        """What `look` finds in the end, for what the server tells nobody but those who ask."""
        return _await(self.process, self.log_path, look)

    def await_log(self, pattern: str) -> None:
        """Wait until the log has a match of the regular expression; `.` matches line breaks too."""
        self.await_true(lambda: re.search(pattern, self.log, re.DOTALL))

    def terminate(self) -> int:
        """Ask it to stop, as a supervisor does, and give back its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS_MAX)


@dataclass(frozen=True)
class Answer:
    """What one request was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def server_environ(settings: Mapping[str, str], data_dir: Path) -> dict[str, str]:
    """This process's environment without its own DS_* settings, and the given ones over it."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("DS_", "RUST_LOG", "PORT"))
    }
    return (
        inherited | {"DS_STORAGE__DATA_DIR": str(data_dir), "DS_SERVER__HOST": "127.0.0.1"} | dict(settings)
    )


@contextmanager
def running_server(
    folder: Path,
    settings: Mapping[str, str] | None = None,
    tls: TlsFiles | None = None,
    command: tuple[str, ...] = GUNICORN,
    ready_path: str = "/readyz",
    cwd: Path = ROOT,
) -> Iterator[Server]:
    """A server that answers at `ready_path`, stopped when the block ends. Raises ServerDidNotStart with its log."""
    chosen = {"DS_SERVER__PORT": "0", **(settings or {})}
    if tls is not None:
        chosen |= {"DS_TLS__CERT_PATH": str(tls.certificate), "DS_TLS__KEY_PATH": str(tls.key)}
    if chosen.get("DS_STORAGE__MODE") == "postgres" and "DS_POSTGRES__DSN" not in chosen:
        chosen |= _own_schema()
    log_path = folder / "server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=server_environ(chosen, folder / "data"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        port = _await_port(process, log_path)
        server = Server(process, port, log_path, tls)
        _await_ready(server, ready_path)
        yield server
    finally:
        _end(process)


def _own_schema() -> dict[str, str]:
    """Settings for an empty schema in the database of this test process; skips where there is no PostgreSQL."""
    from tests.postgres.cluster import new_schema, shared_cluster

    return {"DS_POSTGRES__DSN": shared_cluster().dsn, "DS_POSTGRES__DB_SCHEMA": new_schema()}


def _await_port(process: subprocess.Popen[bytes], log_path: Path) -> int:
    """The port that the system has given the server, as its log says."""
    found = _await(process, log_path, lambda: LISTENING.search(_read(log_path)))
    return int(found[1])


def _await_ready(server: Server, ready_path: str) -> None:
    def answers() -> bool:
        try:
            return server.request("GET", ready_path).status == 200
        except OSError:
            return False

    _await(server.process, server.log_path, answers)


def _await(process: subprocess.Popen[bytes], log_path: Path, look: Callable[[], T | None]) -> T:
    """What `look` finds in the end. The process tells nobody when it is ready, so it has to be asked."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        if process.poll() is not None:
            raise ServerDidNotStart(f"it ended with code {process.returncode}:\n{_read(log_path)}")
        time.sleep(POLL_SECONDS)
    raise ServerDidNotStart(f"it was not ready after {START_SECONDS_MAX:.0f} s:\n{_read(log_path)}")


def _read(log_path: Path) -> str:
    return log_path.read_text(encoding="utf-8", errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
