"""Both workers inside the test's process, on a pair of sockets: what a client sends, when, and what it gets.

Nothing here waits for time to pass: the next piece is sent when the server has taken the one before.
"""

from __future__ import annotations

import array
import fcntl
import json
import logging
import socket
import termios
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gevent
from gevent.socket import socketpair
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.ggevent import GeventWorker

from durable_streams.worker import StreamWorker
from durable_streams.worker.client_socket import WRITE_TIMEOUT_S, LiveSocketOffer
from durable_streams.worker.stream_worker import ListenerName

LISTENER = ListenerName(("127.0.0.1", 8000))
CLIENT = ("127.0.0.1", 50_000)
UNIX_LISTENER = ListenerName("/run/streams.sock")
UNIX_CLIENT = ""
"""The address of a client of a Unix-domain socket that has no name of its own, as all have."""
UNTRUSTED_CLIENT = ("192.0.2.1", 50_000)
TURNS_MAX = 10_000
ANSWER_S_MAX = 120
# However slow the machine is, no connection of a test is ended for being idle.
FOR_TESTS = {"http_parser": "python", "loglevel": "critical", "keepalive": 3600}

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass(frozen=True)
class Answer:
    """One answer as the client sees it; names of fields in small letters, and those that tell the time left out."""

    status: int
    fields: dict[str, str]
    body: bytes


def gunicorn_config(**settings: Any) -> Config:
    config = Config()
    for name, value in {**FOR_TESTS, **settings}.items():
        config.set(name, value)
    return config


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answers with what it has been given."""
    body = environ["wsgi.input"].read()
    plain = {key: value for key, value in environ.items() if isinstance(value, str | int | tuple)}
    answer = json.dumps([plain, body.decode("latin-1")], sort_keys=True).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


def stream_worker(
    app: Wsgi = echo, *, write_timeout_s: float = WRITE_TIMEOUT_S, **settings: Any
) -> StreamWorker:
    """A worker as it is when it has begun to serve, but without listeners."""
    worker: StreamWorker = _made(StreamWorker, app, settings)
    worker.write_timeout_s = write_timeout_s
    worker.prepare()
    return worker


def stock_worker(
    app: Wsgi = echo, *, write_timeout_s: float = WRITE_TIMEOUT_S, **settings: Any
) -> GeventWorker:
    """gunicorn's own gevent worker, as our hooks leave it."""
    return _made(GeventWorker, LiveSocketOffer(app, write_timeout_s), settings)


def _made(kind: Any, app: Wsgi, settings: dict[str, Any]) -> Any:
    config = gunicorn_config(**settings)
    log = Logger(config)
    logging.getLogger("gunicorn.error").propagate = False
    worker = kind(0, 0, [], None, 30, config, log)
    worker.tmp.close()
    worker.wsgi = app
    return worker


class Conversation:
    """A client of ``worker``, in the greenlet of the test. ``unix``: through a Unix-domain listener."""

    def __init__(self, worker: GeventWorker, *, unix: bool = False) -> None:
        self.sock, self.served = socketpair()
        self.sock.settimeout(ANSWER_S_MAX)
        listener, client = (UNIX_LISTENER, UNIX_CLIENT) if unix else (LISTENER, CLIENT)
        self.greenlet = gevent.spawn(worker.handle, listener, self.served, client)

    def send(self, data: bytes) -> None:
        """Send, and let the server take all of it."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return
        for _ in range(TURNS_MAX):
            if self.greenlet.dead or not bytes_waiting(self.served):
                return
            gevent.idle()
        raise AssertionError("the server does not read")

    def receive_all(self) -> bytes:
        """Everything until the server closes."""
        seen = b""
        while True:
            try:
                data = self.sock.recv(65_536)
            except ConnectionResetError:
                return seen
            if not data:
                return seen
            seen += data

    def finish(self) -> bytes:
        """Stop sending; everything that comes until the server closes."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        seen = self.receive_all()
        self.greenlet.join(ANSWER_S_MAX)
        assert self.greenlet.dead, "the connection is not let go"
        self.sock.close()
        return seen


def converse(worker: GeventWorker, *pieces: bytes, unix: bool = False) -> bytes:
    """All that the server says to ``pieces``, each of which it has taken before the next one comes."""
    conversation = Conversation(worker, unix=unix)
    for piece in pieces:
        conversation.send(piece)
    return conversation.finish()


def bytes_waiting(sock: Any) -> int:
    """What has come and not been read."""
    if sock.fileno() < 0:
        return 0
    size = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.FIONREAD, size)
    return size[0]


def answers_in(seen: bytes, heads: Iterable[int] = ()) -> list[Answer]:
    """The answers that ``seen`` consists of; those at the indexes ``heads`` have no body whatever they say."""
    answers = []
    while seen:
        head, seen = seen.split(b"\r\n\r\n", 1)
        status_line, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        status = int(status_line.split()[1])
        body = b""
        if len(answers) in heads or status < 200 or status in (204, 304):
            pass
        elif "chunked" in fields.get("transfer-encoding", ""):
            body, seen = unchunked(seen)
        else:
            length = int(fields.get("content-length", len(seen)))
            body, seen = seen[:length], seen[length:]
        fields.pop("date", None)
        answers.append(Answer(status, fields, body))
    return answers


def unchunked(seen: bytes) -> tuple[bytes, bytes]:
    """A body that came in chunks, and what follows it; raises ValueError when the last chunk is missing."""
    body = b""
    while True:
        size, seen = seen.split(b"\r\n", 1)
        length = int(size, 16)
        body += seen[:length]
        if seen[length : length + 2] != b"\r\n":
            raise ValueError("a chunk does not end where it says")
        seen = seen[length + 2 :]
        if not length:
            return body, seen
