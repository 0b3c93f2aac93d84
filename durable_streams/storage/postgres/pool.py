"""The sessions of one process: made when they are needed, given back after use, thrown away when they have failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gevent.lock import BoundedSemaphore

from durable_streams.protocol.errors import Unavailable
from durable_streams.storage.postgres.connection import Connection


class Pool:
    """At most ``size`` sessions; the next caller waits for one until ``wait_s`` seconds are over."""

    def __init__(self, connect: Callable[[], Connection], size: int, wait_s: float) -> None:
        self._connect = connect
        self._places = BoundedSemaphore(size)
        self._wait_s = wait_s
        self._idle: list[Connection] = []
        self._is_closed = False
        self.is_reachable = True
        """Whether the last attempt to connect has succeeded."""

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """A session for the block. Raises Unavailable when there is none to be had."""
        if not self._places.acquire(timeout=self._wait_s):
            raise Unavailable("all sessions with the database are busy")
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._places.release()

    def drop_idle(self) -> None:
        """The database has gone once: sessions that look idle may be dead."""
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        self._is_closed = True
        self.drop_idle()

    def _take(self) -> Connection:
        if self._is_closed:
            raise Unavailable("the storage is closed")
        if self._idle:
            return self._idle.pop()
        try:
            connection = self._connect()
        except Unavailable:
            self.is_reachable = False
            raise
        self.is_reachable = True
        return connection

    def _give_back(self, connection: Connection) -> None:
        if not connection.is_usable:
            self.drop_idle()
        elif self._is_closed:
            connection.close()
        else:
            self._idle.append(connection)
