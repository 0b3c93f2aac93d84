"""Several workers over one database: whichever answers knows what every other has acknowledged."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers import Server, running_server

STREAM = "/v1/stream/s"
WORKERS = 3
CONNECTIONS = 8
"""Each stays with the worker that has accepted it, so that requests go to several."""

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"DS_STORAGE__MODE": "postgres", "WEB_CONCURRENCY": str(WORKERS)}
    with running_server(tmp_path_factory.mktemp("workers"), settings) as running:
        yield running


def workers_of(server: Server) -> int:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return len(children)


def test_each_append_is_read_at_once_through_every_connection(server: Server) -> None:
    assert workers_of(server) == WORKERS
    connections = [server.connect() for _ in range(CONNECTIONS)]
    try:
        ask(connections[0], "PUT")
        stale = 0
        written = b""
        for number in range(100):
            body = b"%d," % number
            assert ask(connections[number % CONNECTIONS], "POST", body)[0] == 204
            written += body
            for reader in connections[:4]:
                stale += ask(reader, "GET")[1] != written
        assert stale == 0
    finally:
        for connection in connections:
            connection.close()


def test_an_append_wakes_a_long_poll_of_every_worker(server: Server) -> None:
    ask_once(server, "PUT", "/v1/stream/woken")
    readers = [server.connect() for _ in range(CONNECTIONS)]
    try:
        for reader in readers:
            reader.request("GET", "/v1/stream/woken?offset=-1&live=long-poll")
        assert ask_once(server, "POST", "/v1/stream/woken", b"news") == 204
        answers = [reader.getresponse() for reader in readers]
        assert [(answer.status, answer.read()) for answer in answers] == [(200, b"news")] * CONNECTIONS
    finally:
        for reader in readers:
            reader.close()


def test_a_killed_worker_loses_nothing_acknowledged(server: Server) -> None:
    name = "/v1/stream/killed"
    ask_once(server, "PUT", name)
    acknowledged: list[bytes] = []
    for number in range(60):
        if number in (20, 40):
            pid = server.process.pid
            victim = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
            os.kill(victim, 9)
        body = b"%d," % number
        try:
            if ask_once(server, "POST", name, body) == 204:
                acknowledged.append(body)
        except (OSError, http.client.HTTPException):
            # Whoever was connected to the killed worker was told nothing.
            continue
    with closing(server.connect()) as connection:
        connection.request("GET", f"{name}?offset=-1")
        parts = connection.getresponse().read().split(b",")[:-1]
    assert len(parts) == len(set(parts))
    assert {body[:-1] for body in acknowledged} <= set(parts)
    assert len(acknowledged) > 40


def ask(connection: http.client.HTTPConnection, method: str, body: bytes | None = None) -> tuple[int, bytes]:
    path = f"{STREAM}?offset=-1" if method == "GET" else STREAM
    connection.request(method, path, body=body, headers={"Content-Type": "text/plain"})
    response = connection.getresponse()
    return response.status, response.read()


def ask_once(server: Server, method: str, path: str, body: bytes | None = None) -> int:
    return server.request(method, path, body, {"Content-Type": "text/plain"}).status
