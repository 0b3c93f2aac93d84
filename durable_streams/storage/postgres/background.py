"""What goes on beside the requests: small chunks are merged, and what removed streams had is deleted in pieces.

Both are for the database's sake only, change nothing that a reader sees, and may be done by several processes at once.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import gevent
from gevent.event import Event

from durable_streams.protocol.errors import Unavailable
from durable_streams.storage.contract import Change
from durable_streams.storage.postgres import arrays
from durable_streams.storage.postgres.connection import ConnectionLost, StatementFailed
from durable_streams.storage.postgres.pool import Pool

log = logging.getLogger("durable_streams.storage")

MERGED_BYTES: Final = 64 << 10
"""Chunks are merged up to this size."""
SMALL_BYTES: Final = 8 << 10
PIECES_MAX: Final = 64
"""So many small chunks in a row are worth merging."""
WATCHED_MAX: Final = 10_000
"""Streams whose small chunks are counted; of others they are found when they are read."""
PURGE_INTERVAL_S: Final = 10.0
PURGED_CHUNKS: Final = 2000
MERGE: Final = b"select ds_merge($1, $2, $3)"
PURGE: Final = b"""
    with uids as (select uid from removed order by uid limit 8 for update skip locked),
        gone as (delete from chunks where ctid in (
            select c.ctid from chunks c join uids on c.uid = uids.uid limit $1) returning 1),
        entries_gone as (delete from entries where ctid in (
            select e.ctid from entries e join uids on e.uid = uids.uid limit $1) returning 1),
        counts as (select (select count(*) from gone) as chunks, (select count(*) from entries_gone) as entries),
        done as (delete from removed where uid in (select uid from uids)
            and (select chunks < $1 and entries < $1 from counts))
    select chunks + entries from counts"""


@dataclass(slots=True)
class _Run:
    """Small chunks in a row that have not been merged."""

    start: int
    stop: int
    pieces: int


class Background:
    """One greenlet of a process for all its streams."""

    def __init__(self, pool: Pool, seconds: float) -> None:
        self._pool = pool
        self._seconds = seconds
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._ready: dict[str, _Run] = {}
        self._wanted = Event()
        self._is_stopping = False
        self._has_removed = True

    def start(self) -> None:
        self._greenlet = gevent.spawn(self._work)

    def stop(self) -> None:
        """What is left undone is found again."""
        self._is_stopping = True
        self._wanted.set()
        self._greenlet.join()

    def note(self, change: Change) -> None:
        """``change`` is durable."""
        before, after = change.before, change.after
        if before is not None and (after is None or change.is_new):
            self._runs.pop(before.config.uid, None)
            self._has_removed = True
        if after is None or change.is_new or before is None:
            return
        size = after.tail - before.tail
        if 0 < size < SMALL_BYTES:
            self._extend(after.config.uid, before.tail, after.tail)

    def note_pieces(self, uid: str, start: int, stop: int, pieces: int) -> None:
        """A read from ``start`` to ``stop`` has found so many chunks."""
        if pieces >= PIECES_MAX and (stop - start) // pieces < SMALL_BYTES:
            self._ready[uid] = _Run(start, stop, pieces)
            self._wanted.set()

    def _extend(self, uid: str, start: int, stop: int) -> None:
        run = self._runs.get(uid)
        if run is None or run.stop != start:
            run = self._runs[uid] = _Run(start, stop, 1)
            if len(self._runs) > WATCHED_MAX:
                self._runs.popitem(last=False)
        else:
            run.stop, run.pieces = stop, run.pieces + 1
        if run.pieces >= PIECES_MAX or run.stop - run.start >= MERGED_BYTES:
            self._ready[uid] = self._runs.pop(uid)
            self._wanted.set()

    def _work(self) -> None:
        while not self._is_stopping:
            self._wanted.wait(PURGE_INTERVAL_S)
            self._wanted.clear()
            try:
                self._merge()
                self._purge()
            except (Unavailable, ConnectionLost, StatementFailed) as exc:
                log.debug("background work with the database waits: %s", exc)
                gevent.sleep(1.0)

    def _merge(self) -> None:
        while self._ready and not self._is_stopping:
            uid, run = self._ready.popitem()
            for start in range(run.start, run.stop, MERGED_BYTES):
                stop = min(run.stop, start + MERGED_BYTES)
                with self._pool.session() as session:
                    parameters = [uid.encode(), arrays.int8(start), arrays.int8(stop)]
                    session.run(b"merge", MERGE, parameters, self._seconds)

    def _purge(self) -> None:
        while self._has_removed and not self._is_stopping:
            with self._pool.session() as session:
                ((count,),) = session.run(b"purge", PURGE, [arrays.int8(PURGED_CHUNKS)], self._seconds)
            assert count is not None
            self._has_removed = arrays.to_int8(count) > 0
