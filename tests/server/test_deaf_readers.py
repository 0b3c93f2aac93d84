"""Clients that ask and then take nothing: they cost a connection for a time, and never hold up a stop."""

from __future__ import annotations

import os
import random
import signal
import socket
from base64 import b85encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.servers import Server, running_server

pytestmark = pytest.mark.server

DEAF = 200
PAGE_BYTES = 7 * 1024 * 1024
GRACE_SECONDS = 2
TEXT = {"Content-Type": "text/plain"}
KINDS = {
    "page": ("?offset=-1", ""),
    "event stream": ("?offset=-1&live=sse", ""),
    "compressed event stream": ("?offset=-1&live=sse", "Accept-Encoding: gzip\r\n"),
}
kinds = pytest.mark.parametrize("kind", KINDS)
workers = pytest.mark.parametrize("worker_class", ["stream", "gevent"])


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Server]:
    """With one stream that no socket holds, compressed or not."""
    chosen = {
        "DS_HTTP__COMPRESS_SSE": "true",
        "DS_LIMITS__MAX_READ_BYTES": str(PAGE_BYTES),
        "DS_SERVER__SHUTDOWN_GRACE_SECS": str(GRACE_SECONDS),
        **settings,
    }
    with running_server(folder, chosen) as server:
        payload = b85encode(random.Random(1).randbytes(PAGE_BYTES))
        assert server.request("PUT", "/v1/stream/long", payload, TEXT).status == 201
        assert server.request("POST", "/v1/stream/long", payload, TEXT).status == 204
        yield server


def deaf_reader(server: Server, kind: str) -> socket.socket:
    """A connection whose response has begun; no more of it is ever read."""
    query, fields = KINDS[kind]
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(60)
    client.connect(("127.0.0.1", server.port))
    client.sendall(f"GET /v1/stream/long{query} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
    assert client.recv(12) == b"HTTP/1.1 200"
    return client


def open_sockets(server: Server) -> int:
    """Of the worker, its listener among them."""
    pid = server.process.pid
    (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    folder = f"/proc/{worker}/fd"
    count = 0
    for name in os.listdir(folder):
        try:
            count += os.readlink(f"{folder}/{name}").startswith("socket:")
        except FileNotFoundError:
            continue
    return count


@workers
@kinds
def test_a_reader_that_takes_nothing_is_dropped_in_time(kind: str, worker_class: str, tmp_path: Path) -> None:
    settings = {"DS_SERVER__WRITE_TIMEOUT_SECS": "0.5", "DS_SERVER__WORKER_CLASS": worker_class}
    with serving(tmp_path, **settings) as server:
        before = server.await_true(lambda: open_sockets(server))
        with ExitStack() as clients:
            for _ in range(5):
                clients.enter_context(deaf_reader(server, kind))
            server.await_true(lambda: open_sockets(server) <= before)
        assert server.terminate() == 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "event" in kind])
def test_the_reconnect_interval_reaches_a_reader_that_takes_nothing(kind: str, tmp_path: Path) -> None:
    settings = {
        "DS_SERVER__WRITE_TIMEOUT_SECS": "3600",
        "DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "0.5",
    }
    with serving(tmp_path, **settings) as server:
        before = server.await_true(lambda: open_sockets(server))
        with ExitStack() as clients:
            for _ in range(5):
                clients.enter_context(deaf_reader(server, kind))
            server.await_true(lambda: open_sockets(server) <= before)


@workers
@kinds
def test_deaf_readers_do_not_hold_up_a_stop(kind: str, worker_class: str, tmp_path: Path) -> None:
    """The master kills a worker that has not ended soon after its grace, and says so."""
    settings = {"DS_SERVER__WRITE_TIMEOUT_SECS": "3600", "DS_SERVER__WORKER_CLASS": worker_class}
    with serving(tmp_path, **settings) as server, ExitStack() as clients:
        for _ in range(DEAF):
            clients.enter_context(deaf_reader(server, kind))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        if worker_class == "stream":
            # gunicorn's own worker looks once a second, and may be killed for it on a busy machine.
            assert "was killed" not in server.log
            assert "SIGKILL" not in server.log
        assert server.log.rstrip().endswith(f"stopped process.pid={server.process.pid}")
