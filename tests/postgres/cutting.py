"""A TCP proxy in front of PostgreSQL that cuts the network in the middle of a commit."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final

_COMMITS: Final = (b"\0commit\0", b"\0commit_entries\0")
"""The names of the prepared statements, as a Bind message has them after the empty name of its portal."""
_PIECE_BYTES: Final = 1 << 16


class Cut(StrEnum):
    """Where the connection ends."""

    UNSENT = "nothing of the statement arrives"
    HALF_SENT = "half of the statement arrives"
    SENT = "the statement arrives, and its sender is gone at once"
    UNANSWERED = "the statement is carried out, and nothing of its answer arrives"
    HALF_ANSWERED = "the statement is carried out, and a part of its answer arrives"


class CuttingProxy:
    """Carries sessions to a Unix socket until a cut is asked for."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        """``folder``: of the database's socket."""
        self._target = str(folder / ".s.PGSQL.5432")
        self._rng = rng
        self._lock = threading.Lock()
        self._armed: Cut | None = None
        self._happened = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, how: Cut, timeout_s: float) -> bool:
        """End the session that sends the next commit; whether one came in time."""
        self._happened.clear()
        with self._lock:
            self._armed = how
        return self._happened.wait(timeout_s)

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for each in list(self._open):
            _end(each)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                database = socket.socket(socket.AF_UNIX)
                self._open |= {client, database}
                try:
                    database.connect(self._target)
                except OSError:
                    self._forget(client, database)
                    continue
                session = _Session(client, database, self._take, self._rng, self._happened.set)
                for pump in (session.to_database, session.to_client):
                    threading.Thread(target=self._run, args=(pump, client, database), daemon=True).start()

    def _run(self, pump: Callable[[], None], client: socket.socket, database: socket.socket) -> None:
        with suppress(OSError):
            pump()
        self._forget(client, database)

    def _forget(self, *sockets: socket.socket) -> None:
        for each in sockets:
            self._open.discard(each)
            _end(each)

    def _take(self) -> Cut | None:
        with self._lock:
            armed, self._armed = self._armed, None
        return armed


class _Session:
    """One connection, and the cut that it has drawn."""

    def __init__(
        self,
        client: socket.socket,
        database: socket.socket,
        take: Callable[[], Cut | None],
        rng: random.Random,
        happened: Callable[[], None],
    ) -> None:
        self._client, self._database = client, database
        self._take, self._rng, self._happened = take, rng, happened
        self._cut: Cut | None = None

    def to_database(self) -> None:
        while data := self._client.recv(_PIECE_BYTES):
            if any(name in data for name in _COMMITS):
                self._cut = self._take()
            if self._cut in (Cut.UNSENT, Cut.HALF_SENT):
                self._database.sendall(data[: len(data) // 2] if self._cut is Cut.HALF_SENT else b"")
                return self._happened()
            self._database.sendall(data)
            if self._cut is Cut.SENT:
                return self._happened()

    def to_client(self) -> None:
        while data := self._database.recv(_PIECE_BYTES):
            cut = self._cut
            if cut in (Cut.UNANSWERED, Cut.HALF_ANSWERED):
                kept = self._rng.randrange(1, len(data)) if cut is Cut.HALF_ANSWERED else 0
                self._client.sendall(data[:kept])
                return self._happened()
            self._client.sendall(data)


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
