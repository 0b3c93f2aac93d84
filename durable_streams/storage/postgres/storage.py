"""PostgresStorage: the contract on one database that many processes share. docs/storage-postgres.md says it for people.

A batch is one statement that commits by itself; conflicts come back as lost streams with their new states. A question
names the marks that this process knows, so a stream that nobody changed costs no row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Final
from zlib import crc32

import msgspec

from durable_streams.protocol.errors import StorageFull, StreamDamaged, StreamNotFound, Unavailable
from durable_streams.protocol.names import RESERVED
from durable_streams.protocol.state import StreamState
from durable_streams.storage.abilities import Relay
from durable_streams.storage.contract import NOTHING_LOST, Found, Lost, Storage, Unit
from durable_streams.storage.postgres import arrays
from durable_streams.storage.postgres.background import Background
from durable_streams.storage.postgres.caches import PageCache
from durable_streams.storage.postgres.commits import Batch, batch_of
from durable_streams.storage.postgres.connection import (
    Connection,
    ConnectionLost,
    Rows,
    StatementFailed,
)
from durable_streams.storage.postgres.entries import (
    LOAD,
    WholeMark,
    are_many,
    has_entries_elsewhere,
    loaded_row,
)
from durable_streams.storage.postgres.options import PostgresOptions
from durable_streams.storage.postgres.pool import Pool
from durable_streams.storage.postgres.relay import NotifyRelay
from durable_streams.storage.postgres.schema import migrate
from durable_streams.storage.postgres.writer import Writer
from durable_streams.storage.rows import from_row
from durable_streams.storage.state_cache import StateCache

log = logging.getLogger("durable_streams.storage")

OLDEST_SERVER: Final = 130000
CONNECT_TIMEOUT_S: Final = 5.0
STATES_MAX: Final = 100_000
READ_BYTES_MAX: Final = 1 << 20
"""Of one statement: a long read must not hold up the database's clean-up."""
_DEADLOCK: Final = frozenset({"40P01", "40001"})
_FULL: Final = frozenset({"53100"})

FIND: Final = b"""
    select k.name, s.uid, s.mark, case when s.mark = k.mark then null else s.row end
        from unnest($1::text[], $2::bigint[]) as k (name, mark) left join streams s on s.name = k.name"""
READ: Final = b"""
    select substring(data from greatest(1, $2 - start + 1)::integer
            for (least($3, start + octet_length(data)) - greatest($2, start))::integer)
        from chunks
        where uid = $1 and start < $3
            and start >= coalesce((select max(start) from chunks where uid = $1 and start <= $2), 0)
            and exists (select from streams where name = $4 and uid = $1)
        order by start"""
HAS_UID: Final = b"select 1 from streams where name = $1 and uid = $2"
COUNT: Final = b"select count(*) from streams where name <> $1 and not name ^@ $2"
NAMES: Final = b"select name from streams where name >= $1 and name > $2 order by name limit $3"
NAMES_BELOW: Final = b"""
    select name from streams where name >= $1 and name > $2 and name < $4 order by name limit $3"""
"""With the end of the prefix as a bound, no row beyond it is looked at."""
LAST_CHARACTER: Final = "\U0010ffff"
DUE: Final = b"select name from streams where due_at <= $1 order by due_at limit $2"
FIGURES_S: Final = 30.0
"""How old the figures for the metrics may be."""
FIGURES: Final = b"""
    select greatest(reltuples, 0)::bigint,
            (select sum(pg_total_relation_size(t::regclass))::bigint
                from unnest(array['streams', 'chunks', 'removed']) as t)
        from pg_class where oid = 'streams'::regclass"""
_decode_row = msgspec.msgpack.Decoder().decode


class PostgresStorage(Storage):
    """The ``postgres`` mode."""

    shared = True

    def __init__(self, options: PostgresOptions) -> None:
        self.shards = max(1, options.pool_size // 2)
        self._options = options
        self._states = StateCache(STATES_MAX)
        self._pages = PageCache(options.cache_bytes)
        self._relay: NotifyRelay | None = None
        self._figures: Mapping[str, float] = {}
        self._figures_until = 0.0
        self._is_open = False

    @property
    def failed(self) -> bool:
        """Whether the database cannot be reached now; it ends when it can."""
        return self._is_open and not self._pool.is_reachable

    def open(self) -> None:
        """Connect, check the server, and bring the schema up to date. Raises Unavailable, or ValueError."""
        if self._is_open:
            return
        options = self._options
        self._pool = Pool(
            partial(_connect, options, options.dsn), options.pool_size, options.statement_timeout_s
        )
        try:
            with self._pool.session() as session:
                _check_server(session)
                migrate(session, options.schema)
        except (ConnectionLost, StatementFailed) as exc:
            self._pool.close()
            raise ValueError(f"the database cannot be prepared: {exc}") from exc
        except ValueError:
            self._pool.close()
            raise
        self._writers = [Writer(self._pool, options.statement_timeout_s) for _ in range(self.shards)]
        self._background = Background(self._pool, options.statement_timeout_s)
        self._background.start()
        self._is_open = True

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if self._relay is not None:
            self._relay.close()
            self._relay = None
        self._background.stop()
        for writer in self._writers:
            writer.forget()
        self._pool.close()
        self._states.clear()

    def relay(self) -> Relay:
        options = self._options
        connect = partial(
            _connect, options, options.listen_dsn or options.dsn, [("synchronous_commit", "off")]
        )
        self._relay = NotifyRelay(connect, f"ds_{options.schema}")
        return self._relay

    def shard_of(self, name: str) -> int:
        # Not hash(), which differs between processes: the same streams should meet in the same batches.
        return crc32(name.encode()) % self.shards

    def joins(self, fork: str, source: str) -> bool:
        """One statement can change any streams; of two shards that change the same one, one loses."""
        return True

    def known(self, name: str) -> StreamState | None:
        return self._states.get(name)

    def find(self, names: Iterable[str]) -> Mapping[str, Found]:
        asked = list(names)
        known = {name: self._states.get(name) for name in asked}
        marks = [state.mark if state else None for state in known.values()]
        rows = self._ask(b"find", FIND, [arrays.texts(asked), arrays.int8s(marks)])  # type: ignore[arg-type]
        found: dict[str, Found] = {}
        for name, uid, mark, row in rows:
            assert name is not None
            text = name.decode()
            state = known[text]
            if state is None or uid is None or row is not None:
                found[text] = self._learn(text, uid, mark, row)
            else:
                found[text] = state
        return found

    def read(self, state: StreamState, start: int, stop: int) -> bytes:
        uid = state.config.uid
        page = self._pages.get(uid, start, stop)
        if page is None:
            pieces = [
                self._read_piece(state, at, min(stop, at + READ_BYTES_MAX))
                for at in range(start, stop, READ_BYTES_MAX)
            ]
            page = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._pages.put(uid, start, stop, page)
        return page

    def commit(self, shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]) -> Lost:
        batch = batch_of(units, rests_on)
        try:
            rows = self._writers[shard].commit(batch)
        except StatementFailed as exc:
            return self._refused(batch, exc)
        lost: dict[str, Found] = {}
        for name, uid, mark, row in rows:
            assert name is not None
            try:
                lost[name.decode()] = self._learn(name.decode(), uid, mark, row)
            except Unavailable:
                # What the commit did stands, even if no more can be asked now.
                self._states.put(name.decode(), None)
                lost[name.decode()] = None
        for change, new_mark in batch.kept(lost):
            after = change.after
            if after is not None:
                after.mark = new_mark
            self._states.put(change.name, after)
            self._background.note(change)
        return lost or NOTHING_LOST

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        parameters = [prefix.encode(), after.encode(), arrays.int8(limit)]
        end = end_of_prefix(prefix)
        if end is None:
            rows = self._ask(b"names", NAMES, parameters)
        else:
            rows = self._ask(b"names_below", NAMES_BELOW, [*parameters, end.encode()])
        names = [name.decode() for (name,) in rows if name is not None]
        return [name for name in names if name.startswith(prefix)]

    def count(self) -> int:
        ((count,),) = self._ask(b"count", COUNT, [RESERVED.encode(), f"{RESERVED}/".encode()])
        assert count is not None
        return arrays.to_int8(count)

    def due(self, now: float, limit: int) -> list[str]:
        rows = self._ask(b"due", DUE, [arrays.float8(now), arrays.int8(limit)])
        return [name.decode() for (name,) in rows if name is not None]

    def figures(self) -> Mapping[str, float]:
        """As the database's own statistics have them, asked for at most every FIGURES_S."""
        if monotonic() >= self._figures_until:
            self._figures_until = monotonic() + FIGURES_S
            try:
                ((streams, size),) = self._ask(b"figures", FIGURES, [])
            except Unavailable as exc:
                log.debug("the database tells no figures: %s", exc)
                return self._figures
            self._figures = {"streams": arrays.to_int8(streams), "database_bytes": arrays.to_int8(size)}  # type: ignore[arg-type]
        return self._figures

    def measure_syncs(self, note: Callable[[float], None]) -> None:
        """The database syncs for itself: a commit's time has it."""

    # -- inside ----------------------------------------------------------------------------------------------

    def _ask(self, name: bytes, sql: bytes, parameters: Sequence[bytes | None]) -> Rows:
        """A question; asked once more on a new session when the old one had ended, since it changes nothing."""
        for attempt in (1, 2):
            try:
                with self._pool.session() as session:
                    return session.run(name, sql, parameters, self._options.statement_timeout_s)
            except ConnectionLost as exc:
                if attempt == 2:
                    raise Unavailable(f"the database does not answer: {exc}") from exc
            except StatementFailed as exc:
                raise Unavailable(f"the database refused a question: {exc}") from exc
        raise AssertionError

    def _learn(self, name: str, uid: bytes | None, mark: bytes | None, row: bytes | None) -> Found:
        """What is recorded of a stream, from its columns."""
        if uid is None or mark is None or row is None:
            self._states.put(name, None)
            return None
        try:
            values = _decode_row(row)
            is_split = has_entries_elsewhere(values)
            if is_split:
                loaded = loaded_row(self._ask(b"load", LOAD, [name.encode()]))
                if loaded is None:
                    self._states.put(name, None)
                    return None
                values, mark = loaded
            state = from_row(values)
        except (msgspec.MsgspecError, ValueError, TypeError, IndexError) as exc:
            return StreamDamaged(f"the row of stream {name!r} cannot be read: {exc!r}")
        number = arrays.to_int8(mark)
        state.mark = number if is_split or not are_many(state) else WholeMark(number)
        self._states.put(name, state)
        return state

    def _read_piece(self, state: StreamState, start: int, stop: int) -> bytes:
        uid = state.config.uid.encode()
        rows = self._ask(b"read", READ, [uid, arrays.int8(start), arrays.int8(stop), state.name.encode()])
        data = b"".join([piece for (piece,) in rows if piece is not None])
        if len(rows) > 1:
            self._background.note_pieces(state.config.uid, start, stop, len(rows))
        if len(data) == stop - start:
            return data
        if not self._ask(b"has_uid", HAS_UID, [state.name.encode(), uid]):
            raise StreamNotFound(state.name)
        raise StreamDamaged(f"stream {state.name!r} lacks bytes between {start} and {stop}")

    def _refused(self, batch: Batch, exc: StatementFailed) -> Lost:
        """The database kept nothing: all is lost after a deadlock, and otherwise it has a reason."""
        if exc.sqlstate in _DEADLOCK:
            self.find(batch.names)
            return frozenset(batch.names)
        if exc.sqlstate in _FULL:
            raise StorageFull(str(exc)) from exc
        raise Unavailable(f"the database refused a commit: {exc}") from exc


def _connect(options: PostgresOptions, dsn: str, more: Sequence[tuple[str, str]] = ()) -> Connection:
    return Connection(dsn, [*options.session_settings, *more], CONNECT_TIMEOUT_S)


def end_of_prefix(prefix: str) -> str | None:
    """The least text that sorts after all that begin with ``prefix``; None where there is none."""
    kept = prefix.rstrip(LAST_CHARACTER)
    if not kept:
        return None
    last = ord(kept[-1])
    # What follows U+D7FF are surrogates, which no text has.
    return kept[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)


def _check_server(session: Connection) -> None:
    if session.server_version < OLDEST_SERVER:
        raise ValueError(f"PostgreSQL {session.server_version // 10000} is too old: 13 or newer is needed")
    ((encoding,),) = session.execute("show server_encoding")
    if encoding != "UTF8":
        raise ValueError(f"the database has the encoding {encoding}: stream names need UTF8")
    ((fsync,),) = session.execute("show fsync")
    if fsync != "on":
        log.warning("PostgreSQL runs with fsync = %s: a power cut may lose answered requests", fsync)
