"""The Procfile with several web processes over one database, started by honcho as a platform would start it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.postgres.cluster import new_schema, shared_cluster
from tests.servers import ROOT, Server, free_port, running_server

pytestmark = pytest.mark.server

PROCESSES = 3
STREAM = "/v1/stream/s"
TEXT = {"Content-Type": "text/plain"}
PROGRAMS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Those of the web processes, which all answer."""
    honcho = PROGRAMS / "honcho"
    if not honcho.exists():
        absent("honcho is not installed")
    found = neighbouring_ports()
    scale = ("--concurrency", f"web={PROCESSES}", "--port", str(found[0]), "--no-colour")
    command = (
        "env",
        "--unset=DS_POSTGRES__DSN",
        str(honcho),
        "start",
        "--procfile",
        "Procfile",
        *scale,
        "web",
    )
    settings = {
        "PATH": f"{PROGRAMS}:/usr/bin:/bin",
        "DS_STORAGE__MODE": "postgres",
        # As a platform gives it; of the tests' own only the schema.
        "DATABASE_URL": f"postgres://streams@/postgres?host={shared_cluster().folder}",
        "DS_POSTGRES__DSN": "",
        "DS_POSTGRES__DB_SCHEMA": new_schema(),
        "DS_SERVER__LONG_POLL_TIMEOUT_SECS": "25",
    }
    with running_server(tmp_path_factory.mktemp("procfile"), settings, command=command, cwd=ROOT) as server:
        server.await_true(lambda: all(is_ready(server, port) for port in found))
        yield found
        assert server.terminate() in (0, 143)
    assert "Traceback" not in server.log


def neighbouring_ports() -> list[int]:
    """Loopback ports in a row that nobody listens on: honcho counts upwards from the first."""
    while True:
        first = free_port()
        with ExitStack() as stack:
            try:
                for port in range(first, first + PROCESSES):
                    stack.enter_context(socket.socket()).bind(("0.0.0.0", port))
                return list(range(first, first + PROCESSES))
            except OSError:
                continue


def is_ready(server: Server, port: int) -> bool:
    try:
        return ask(port, "GET", "/readyz")[0] == 200
    except OSError:
        return False


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, body, TEXT)
        response = connection.getresponse()
        return response.status, response.read()


def test_each_web_process_shows_what_any_other_has_acknowledged(ports: list[int]) -> None:
    assert ask(ports[0], "PUT", STREAM)[0] == 201
    written = b""
    for number in range(30):
        body = b"%d," % number
        assert ask(ports[number % PROCESSES], "POST", STREAM, body)[0] == 204
        written += body
        assert [ask(port, "GET", STREAM) for port in ports] == [(200, written)] * PROCESSES


def test_an_append_wakes_the_readers_of_every_web_process(ports: list[int]) -> None:
    path = "/v1/stream/woken"
    assert ask(ports[0], "PUT", path)[0] == 201
    with ExitStack() as stack:
        readers = [
            stack.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=60))) for port in ports
        ]
        for reader in readers:
            reader.request("GET", f"{path}?offset=-1&live=long-poll")
        assert ask(ports[1], "POST", path, b"news")[0] == 204
        answers = [reader.getresponse() for reader in readers]
        assert [(answer.status, answer.read()) for answer in answers] == [(200, b"news")] * PROCESSES
