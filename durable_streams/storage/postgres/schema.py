"""The tables and functions, and how a database comes to have them.

    streams   one row a stream: its state. ``mark`` is new with every change, and what a commit compares
    chunks    payload: ``data`` are the own bytes of ``uid`` from position ``start`` on
    entries   producers and forks of streams that have many, see ``entries.py``
    removed   uids whose chunks and entries are still to be deleted, in pieces
    writers   one row a committing shard of a process: its last batch, to find out what became of it

An update of a stream changes no indexed column but ``due_at``, and pages are filled to 60 %, so updates stay HOT.
Payload is compressed by nobody (``storage external``): its parts can be read without the rest.
"""

from __future__ import annotations

from typing import Final

from durable_streams.storage.postgres.connection import Connection

SCHEMA_VERSION: Final = 2
_MIGRATION_LOCK: Final = 0x6475_7261_626C_6573
"""The advisory lock of migrations: "durables" in ASCII."""

_TABLES: Final = """
create table streams (
    name text collate "C" primary key,
    uid text collate "C" not null,
    mark bigint not null,
    row bytea not null,
    due_at double precision
) with (fillfactor = 60);
alter table streams alter column row set storage main;
create index streams_due_at on streams (due_at) where due_at is not null;

create table chunks (
    uid text collate "C" not null,
    start bigint not null,
    data bytea not null,
    primary key (uid, start)
);
alter table chunks alter column data set storage external;

create table removed (uid text collate "C" primary key);

create table writers (
    id text collate "C" primary key,
    epoch bigint not null,
    batch bigint not null,
    lost text[] not null,
    used_at timestamptz not null default now()
) with (fillfactor = 20);
"""

_COMMIT: Final = """
create function ds_commit(
    writer text, writer_epoch bigint, this_batch bigint,
    names text[], units integer[], before_uids text[], before_marks bigint[],
    after_uids text[], after_marks bigint[], after_rows bytea[], after_due double precision[],
    chunk_uids text[], chunk_units integer[], chunk_starts bigint[], chunk_data bytea[]
) returns table (lost_name text, lost_uid text, lost_mark bigint, lost_row bytea) language plpgsql as $function$
declare
    lost_names text[];
    lost_units integer[];
    raced text[];
begin
    -- Rows are locked in the order of their names, so that batches of two processes cannot wait for each other.
    perform 1 from streams s where s.name = any (names) order by s.name for no key update;
    select coalesce(array_agg(b.name), '{}'), coalesce(array_agg(distinct b.unit), '{}')
        into lost_names, lost_units
        from unnest(names, units, before_uids, before_marks) as b (name, unit, uid, mark)
        left join streams s on s.name = b.name
        where s.mark is distinct from b.mark or s.uid is distinct from b.uid;

    -- Streams of names that had none come first: only here another process can still come between.
    with created as (
        insert into streams (name, uid, mark, row, due_at)
        select a.name, a.uid, a.mark, a.row, a.due
            from unnest(names, units, before_marks, after_uids, after_marks, after_rows, after_due)
                as a (name, unit, before, uid, mark, row, due)
            where a.before is null and a.uid is not null and a.unit <> all (lost_units)
            order by a.name
        on conflict (name) do nothing
        returning name
    )
    select coalesce(array_agg(a.name), '{}') into raced
        from unnest(names, units, before_marks, after_uids) as a (name, unit, before, uid)
        where a.before is null and a.uid is not null and a.unit <> all (lost_units)
            and not exists (select from created c where c.name = a.name);
    if raced <> '{}' then
        lost_names := lost_names || raced;
        lost_units := lost_units || array(
            select u.unit from unnest(names, units) as u (name, unit) where u.name = any (raced));
        -- The other new streams of those units do not stand alone.
        delete from streams s using unnest(names, units, after_marks) as a (name, unit, mark)
            where s.name = a.name and s.mark = a.mark and a.unit = any (lost_units);
    end if;

    update streams s set uid = a.uid, mark = a.mark, row = a.row, due_at = a.due
        from unnest(names, units, before_marks, after_uids, after_marks, after_rows, after_due)
            as a (name, unit, before, uid, mark, row, due)
        where s.name = a.name and a.before is not null and a.uid is not null and a.unit <> all (lost_units);
    delete from streams s
        using unnest(names, units, before_marks, after_marks) as a (name, unit, before, after)
        where s.name = a.name and a.before is not null and a.after is null and a.unit <> all (lost_units)
            and a.unit >= 0;
    insert into removed (uid)
        select a.before_uid
            from unnest(names, units, before_uids, after_uids) as a (name, unit, before_uid, uid)
            where a.before_uid is not null and a.uid is distinct from a.before_uid
                and a.unit <> all (lost_units) and a.unit >= 0
        on conflict do nothing;
    insert into chunks (uid, start, data)
        select c.uid, c.start, c.data
            from unnest(chunk_uids, chunk_units, chunk_starts, chunk_data) as c (uid, unit, start, data)
            where c.unit <> all (lost_units);

    update writers w set batch = this_batch, lost = lost_names, used_at = now()
        where w.id = writer and w.epoch = writer_epoch;
    if not found then
        raise exception 'writer % has been fenced', writer using errcode = 'DS001';
    end if;
    return query select n.name, s.uid, s.mark, s.row
        from unnest(lost_names) as n (name) left join streams s on s.name = n.name;
end
$function$;
"""

_MERGE: Final = """
create function ds_merge(of_uid text, from_start bigint, to_start bigint) returns void language sql as $function$
    with gone as (
        delete from chunks where uid = of_uid and start >= from_start and start < to_start returning start, data
    )
    insert into chunks (uid, start, data)
        select of_uid, min(start), string_agg(data, ''::bytea order by start) from gone having count(*) > 0;
$function$;
"""

_ENTRIES: Final = """
create table entries (
    uid text collate "C" not null,
    key bytea not null,
    data bytea not null,
    primary key (uid, key)
) with (fillfactor = 60);
"""

MIGRATIONS: Final = (_TABLES + _COMMIT + _MERGE, _ENTRIES)
"""What takes a database from one version to the next; the first makes version 1."""


def migrate(connection: Connection, schema: str) -> int:
    """Bring ``schema`` to SCHEMA_VERSION, one process at a time; returns the version that it had.

    Raises ValueError when a newer server has been here, and what Connection.execute raises.
    """
    connection.execute("select pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
    try:
        version = schema_version(connection, schema)
        if version > SCHEMA_VERSION:
            raise ValueError(
                f"schema {schema} has version {version}, and this server knows versions up to {SCHEMA_VERSION}"
            )
        for number in range(version, SCHEMA_VERSION):
            _take_step(connection, schema, number)
        return version
    finally:
        if connection.is_usable:
            connection.execute("select pg_advisory_unlock(%s)", (_MIGRATION_LOCK,))


def schema_version(connection: Connection, schema: str) -> int:
    """The version of the tables in ``schema``; 0 where there are none yet."""
    (found,) = connection.execute("select to_regclass(%s)", (f"{quoted(schema)}.schema_version",))
    if found[0] is None:
        return 0
    ((version,),) = connection.execute(f"select version from {quoted(schema)}.schema_version")
    return int(version)


def quoted(identifier: str) -> str:
    """An identifier as SQL wants it."""
    return '"' + identifier.replace('"', '""') + '"'


def _take_step(connection: Connection, schema: str, number: int) -> None:
    connection.execute("begin")
    try:
        if number == 0:
            connection.execute(f"create schema if not exists {quoted(schema)}")
            connection.execute("create table schema_version (version integer not null)")
            connection.execute("insert into schema_version values (0)")
        connection.execute(MIGRATIONS[number])
        connection.execute("update schema_version set version = %s", (number + 1,))
        connection.execute("commit")
    except BaseException:
        if connection.is_usable:
            connection.execute("rollback")
        raise
