"""A webhook receiver that misbehaves as it is told: raw sockets in threads, so that every byte is the test's."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, Queue
from types import TracebackType
from typing import Any

Behaviour = Callable[["Delivery"], bytes | None]
"""The bytes of the answer; None: the connection is closed without one."""


@dataclass(frozen=True)
class Delivery:
    """One request as it arrived. ``connection`` counts the receiver's connections from 1."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int
    socket: socket.socket = field(repr=False, compare=False)

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def answer(document: object = None, status: str = "200 OK", *headers: str) -> bytes:
    body = b"" if document is None else json.dumps(document).encode()
    return raw_answer(body, status, *headers)


def raw_answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


DONE = answer({"done": True})


class Receiver:
    """Listens on a loopback port until the block ends; every request is put into ``deliveries``."""

    def __init__(
        self,
        behaviour: Behaviour | bytes = DONE,
        tls: tuple[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.behaviour: Behaviour = behaviour if callable(behaviour) else lambda delivery: behaviour
        self.deliveries: Queue[Delivery] = Queue()
        self.connections = 0
        self._tls = None
        if tls is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*tls)
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/hook"

    def next(self, timeout_s: float = 30.0) -> Delivery:
        """The next request; raises Empty when none comes."""
        return self.deliveries.get(timeout=timeout_s)

    def all_so_far(self) -> list[Delivery]:
        found = []
        while True:
            try:
                found.append(self.deliveries.get_nowait())
            except Empty:
                return found

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        with self._lock:
            for connection in self._open:
                _shut(connection)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            number = self.connections
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                # It takes the descriptor over, also when the handshake fails.
                connection = self._tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
                connection.do_handshake()
            self._converse(connection, number)
        except OSError:
            return
        finally:
            _shut(connection)

    def _converse(self, connection: socket.socket, number: int) -> None:
        with self._lock:
            self._open.add(connection)
        with connection.makefile("rb") as reader:
            while (delivery := _read(reader, connection, number)) is not None:
                self.deliveries.put(delivery)
                sent = self.behaviour(delivery)
                if sent is None:
                    return
                connection.sendall(sent)


def _read(reader: Any, connection: socket.socket, number: int) -> Delivery | None:
    line = reader.readline().decode("latin-1").strip()
    if not line:
        return None
    headers: dict[str, str] = {}
    while text := reader.readline().decode("latin-1").strip():
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", "0")))
    return Delivery(line, headers, body, number, connection)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
