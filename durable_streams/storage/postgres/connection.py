"""One session with the database: connected by psycopg, hot statements through libpq with the event loop's watchers.

psycopg's own cursor costs two to three times the CPU of a statement under gevent, because its C wait is switched off
there. Connecting, TLS and the texts of errors stay psycopg's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import gevent
import psycopg
from gevent import get_hub
from psycopg import errors as pg_errors
from psycopg import pq

from durable_streams.protocol.errors import Unavailable

BINARY: Final = 1
Rows = list[tuple[bytes | None, ...]]

_READABLE: Final = 1
_WRITABLE: Final = 2
_SUCCEEDED: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class ConnectionLost(Exception):
    """The session ended, or its answer did not come in time, so the outcome of the statement is not known."""


class StatementFailed(Exception):
    """The database refused a statement; nothing of it was kept."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(f"{message} (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate


class Connection:
    """One session, used by one greenlet at a time."""

    def __init__(self, dsn: str, settings: Sequence[tuple[str, str]], connect_timeout_s: float) -> None:
        """``settings``: names and values of the session. Raises Unavailable, with the reason in one line."""
        options = {"connect_timeout": max(2, round(connect_timeout_s)), "autocommit": True}
        try:
            self._session = psycopg.connect(dsn, **options)  # type: ignore[arg-type]
            for name, value in settings:
                self._session.execute("select set_config(%s, %s, false)", (name, value))
        except psycopg.Error as exc:
            raise Unavailable(f"the database cannot be used: {on_one_line(exc)}") from exc
        self._pg = self._session.pgconn
        self._pg.nonblocking = 1
        loop = get_hub().loop
        self._readable = loop.io(self._pg.socket, _READABLE)
        self._writable = loop.io(self._pg.socket, _WRITABLE)
        self._prepared: set[bytes] = set()
        self.is_usable = True

    @property
    def server_version(self) -> int:
        """As ``server_version_num`` gives it: 150004 for 15.4."""
        return self._pg.server_version

    @property
    def socket(self) -> int:
        """The descriptor to watch for what the server sends by itself."""
        return self._pg.socket

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """For the rare statements: psycopg's own way, with its conversion of values.

        Raises ConnectionLost or StatementFailed.
        """
        try:
            cursor = self._session.execute(sql, parameters or None)
            return list(cursor.fetchall()) if cursor.description else []
        except psycopg.Error as exc:
            raise self._translated(exc) from exc

    def run(self, name: bytes, sql: bytes, parameters: Sequence[bytes | None], seconds: float) -> Rows:
        """A statement that is prepared once a session; parameters and rows are in the binary format.

        Raises ConnectionLost when the outcome is unknown, StatementFailed when there is none.
        """
        try:
            with gevent.Timeout(seconds):
                if name not in self._prepared:
                    self._pg.send_prepare(name, sql)
                    self._results()
                    self._prepared.add(name)
                self._pg.send_query_prepared(name, parameters, [BINARY] * len(parameters), BINARY)
                return _rows(self._results())
        except gevent.Timeout:
            self.close()
            raise ConnectionLost(f"no answer within {seconds:g} s") from None
        except psycopg.Error as exc:
            raise self._translated(exc) from exc
        except StatementFailed:
            raise
        except BaseException:
            # Killed between a question and its answer: the next question would get that answer.
            self.close()
            raise

    def notifications(self) -> list[str]:
        """The payloads that have arrived since the last call. Raises ConnectionLost."""
        try:
            self._pg.consume_input()
        except psycopg.Error as exc:
            raise self._translated(exc) from exc
        payloads: list[str] = []
        while (notice := self._pg.notifies()) is not None:
            payloads.append(notice.extra.decode("utf-8"))
        return payloads

    def close(self) -> None:
        """End the session. Twice is once."""
        if not self.is_usable:
            return
        self.is_usable = False
        self._readable.close()
        self._writable.close()
        self._session.close()

    def _results(self) -> Any:
        """Send what is queued and wait for the one result of a statement."""
        pg, wait = self._pg, get_hub().wait
        while pg.flush():
            wait(self._writable)
        last: Any = None
        while True:
            while pg.is_busy():
                wait(self._readable)
                pg.consume_input()
            result = pg.get_result()
            if result is None:
                return last
            if result.status not in _SUCCEEDED:
                last = result
                self._drain()
                raise self._refusal(result)
            last = result

    def _drain(self) -> None:
        while not self._pg.is_busy() and self._pg.get_result() is not None:
            pass

    def _refusal(self, result: Any) -> Exception:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        message = on_one_line(result.error_message.decode("utf-8", "replace"))
        if self._pg.status != pq.ConnStatus.OK or state.startswith(("57P", "08")):
            self.close()
            return ConnectionLost(message)
        return StatementFailed(state, message)

    def _translated(self, exc: psycopg.Error) -> Exception:
        state = exc.sqlstate or ""
        lost = self._session.closed or self._session.broken or not state or state.startswith(("57P", "08"))
        if lost or (isinstance(exc, pg_errors.OperationalError) and not state):
            self.close()
            return ConnectionLost(on_one_line(exc))
        return StatementFailed(state, on_one_line(exc))


def on_one_line(text: object) -> str:
    """An error's text without line breaks, as log lines and one-line refusals need it."""
    return " ".join(str(text).split())


def _rows(result: Any) -> Rows:
    columns = range(result.nfields)
    value = result.get_value
    return [tuple(value(row, column) for column in columns) for row in range(result.ntuples)]
