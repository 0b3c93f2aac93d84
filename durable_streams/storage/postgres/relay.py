"""Wakes between the processes of one database: NOTIFY after the commit, in a session of its own, many names at once.

NOTIFY inside a commit would let every commit of the database wait for the one before it; after it, and without a sync
of its own, it costs next to nothing. A wake that is lost in a crash between the two is found by the regular look at
the watched streams.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import gevent
import msgspec
from gevent import get_hub
from gevent.event import Event

from durable_streams.protocol.errors import Unavailable
from durable_streams.storage.abilities import Wake
from durable_streams.storage.postgres.connection import Connection, ConnectionLost, StatementFailed

log = logging.getLogger("durable_streams.storage")

PAYLOAD_BYTES_MAX: Final = 7900
"""PostgreSQL takes less than 8000 bytes."""
PENDING_MAX: Final = 10_000
"""Wakes of so many streams wait at most for a database that is away."""
RETRY_S_MAX: Final = 5.0
NOTIFY: Final = b"select pg_notify($1, $2)"
NOTIFY_SECONDS: Final = 10.0
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[tuple[str, str, int, bool]]).decode


class NotifyRelay:
    """Publishes and listens on one channel, on one session that is made again when it is lost."""

    def __init__(self, connect: Callable[[], Connection], channel: str) -> None:
        self._connect = connect
        self._channel = channel
        self._pending: dict[str, Wake] = {}
        self._wanted = Event()
        self._is_closed = False
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def publish(self, wakes: Sequence[Wake]) -> None:
        """Sent with the next message; a newer wake of the same stream takes the place of an older one."""
        for wake in wakes:
            self._pending[wake.name] = wake
        if len(self._pending) > PENDING_MAX:
            self._pending.clear()
        self._wanted.set()

    def listen(self, deliver: Callable[[Sequence[Wake]], None], lost: Callable[[], None]) -> None:
        self._greenlet = gevent.spawn(self._run, deliver, lost)

    def close(self) -> None:
        """Send what is pending if the database is there, then end the session. Twice is once."""
        self._is_closed = True
        self._wanted.set()
        if self._greenlet is not None:
            self._greenlet.join(timeout=NOTIFY_SECONDS)
            self._greenlet.kill()

    def _run(self, deliver: Callable[[Sequence[Wake]], None], lost: Callable[[], None]) -> None:
        failures = 0
        while not self._is_closed:
            try:
                connection = self._connect()
            except Unavailable as exc:
                failures += 1
                if failures == 1:
                    log.warning("wakes of other processes are late: %s", exc.cause)
                gevent.sleep(random.random() * min(RETRY_S_MAX, 0.1 * 2**failures))
                continue
            failures = 0
            try:
                self._serve(connection, deliver, lost)
            except (ConnectionLost, StatementFailed) as exc:
                log.warning("the session for wakes has ended: %s", exc)
            finally:
                connection.close()

    def _serve(
        self, connection: Connection, deliver: Callable[[Sequence[Wake]], None], lost: Callable[[], None]
    ) -> None:
        connection.execute(f'listen "{self._channel}"')
        # What was published since the last session has not been heard here.
        lost()
        watcher = get_hub().loop.io(connection.socket, 1)
        watcher.start(self._wanted.set)
        try:
            while True:
                self._wanted.wait()
                self._wanted.clear()
                self._send(connection)
                heard = [Wake(*fields) for text in connection.notifications() for fields in _decode(text)]
                if heard:
                    deliver(heard)
                if self._is_closed and not self._pending:
                    return
                # A readable socket would set the event again and again until it has been read.
        finally:
            watcher.stop()
            watcher.close()

    def _send(self, connection: Connection) -> None:
        while self._pending:
            wakes = list(self._pending.values())
            self._pending.clear()
            for payload in _payloads(wakes):
                connection.run(b"notify", NOTIFY, [self._channel.encode(), payload], NOTIFY_SECONDS)


def _payloads(wakes: Sequence[Wake]) -> Iterator[bytes]:
    """JSON arrays of wakes, each short enough for one message."""
    items: list[bytes] = []
    size = 0
    for wake in wakes:
        item = _encode(tuple(wake))
        if items and size + len(item) + 1 > PAYLOAD_BYTES_MAX:
            yield b"[" + b",".join(items) + b"]"
            items, size = [], 0
        items.append(item)
        size += len(item) + 1
    if items:
        yield b"[" + b",".join(items) + b"]"
