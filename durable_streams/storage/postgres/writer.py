"""One shard's commits: the statement, and what became of it when its connection broke.

Nothing is guessed: the statement writes its batch's number into its writer's row. After a broken connection the writer
gets a new epoch, which waits for a statement that is still running and refuses one that comes late; then the row tells
whether the batch was kept.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from time import monotonic
from typing import Final

import gevent

from durable_streams.protocol.errors import OutcomeUnknown, Unavailable
from durable_streams.storage.postgres.arrays import to_int8
from durable_streams.storage.postgres.commits import Batch
from durable_streams.storage.postgres.connection import Connection, ConnectionLost, Rows, StatementFailed
from durable_streams.storage.postgres.pool import Pool

log = logging.getLogger("durable_streams.storage")


FENCE: Final = (
    b"update writers set epoch = epoch + 1, used_at = now() where id = $1 returning epoch, batch, lost"
)
BEGIN: Final = b"insert into writers (id, epoch, batch, lost) values ($1, 1, 0, '{}') on conflict do nothing"
FORGET: Final = b"delete from writers where id = $1"
LOST: Final = b"""
    select n.name, s.uid, s.mark, s.row
        from writers w, unnest(w.lost) as n (name) left join streams s on s.name = n.name where w.id = $1"""
RESOLVE_PAUSE_S: Final = 0.2
RESOLVE_S_MAX: Final = 30.0
"""How long an answer may wait for a database that has gone in the middle of a commit."""


class NothingKept(Exception):
    """The batch is not in the database, and never will be."""


class Writer:
    """One shard's commits, one at a time, and their outcome."""

    def __init__(self, pool: Pool, seconds: float) -> None:
        self._pool = pool
        self._seconds = seconds
        self._id = os.urandom(12).hex()
        self._epoch = 0
        """0: the row is not there yet."""
        self._is_fenced = True

    def commit(self, batch: Batch) -> Rows:
        """The streams that were lost, with what is recorded of them.

        Raises StatementFailed or Unavailable when nothing was kept, OutcomeUnknown when nobody can tell.
        """
        with self._pool.session() as session:
            try:
                self._prepare(session)
            except ConnectionLost as exc:
                raise Unavailable(f"the database does not answer: {exc}") from exc
            try:
                parameters = batch.parameters(self._id, self._epoch)
                return session.run(*batch.statement(), parameters, self._seconds)
            except ConnectionLost as exc:
                self._is_fenced = False
                reason = str(exc)
        return self._resolve(batch, reason)

    def forget(self) -> None:
        """Its last batch has an outcome, so its row is not needed any more."""
        if not self._epoch or not self._is_fenced:
            return
        with suppress(Unavailable, ConnectionLost, StatementFailed), self._pool.session() as session:
            session.run(b"forget", FORGET, [self._id.encode()], self._seconds)

    def _prepare(self, session: Connection) -> None:
        if not self._epoch:
            session.run(b"begin", BEGIN, [self._id.encode()], self._seconds)
            self._epoch = 1
        elif not self._is_fenced:
            self._fence(session)

    def _fence(self, session: Connection) -> int:
        """Refuse every statement that was sent before now; returns the number of the last batch that was kept."""
        rows = session.run(b"fence", FENCE, [self._id.encode()], self._seconds)
        if not rows:
            # A restored or emptied database: whatever was under way is not in it.
            self._epoch, self._is_fenced = 0, True
            self._prepare(session)
            return 0
        epoch, number, _ = rows[0]
        assert epoch is not None
        assert number is not None
        self._epoch, self._is_fenced = to_int8(epoch), True
        return to_int8(number)

    def _resolve(self, batch: Batch, reason: str) -> Rows:
        """What became of a batch whose session broke."""
        log.warning("a session with the database broke during a commit: %s", reason)
        until = monotonic() + RESOLVE_S_MAX
        while True:
            try:
                with self._pool.session() as session:
                    if self._fence(session) != batch.number:
                        raise NothingKept(reason)
                    return self._lost_of(session, batch)
            except NothingKept as exc:
                raise Unavailable(f"the database went away before the commit: {reason}") from exc
            except (Unavailable, ConnectionLost, StatementFailed) as exc:
                if monotonic() > until:
                    raise OutcomeUnknown(f"the database went away during a commit: {reason}") from exc
                gevent.sleep(RESOLVE_PAUSE_S)

    def _lost_of(self, session: Connection, batch: Batch) -> Rows:
        rows = session.run(b"lost", LOST, [self._id.encode()], self._seconds)
        return [(name, uid, mark, row) for name, uid, mark, row in rows]
