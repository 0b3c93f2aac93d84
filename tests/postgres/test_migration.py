"""A database of version 1 with streams in it comes to this version, by one of several processes that start at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg
import pytest

from durable_streams.protocol.errors import Unavailable
from durable_streams.storage.postgres import PostgresOptions, PostgresStorage, entries, schema
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore
from tests.contract.driving import append_request, create_request
from tests.postgres.cluster import new_schema, shared_cluster
from tests.servers import ROOT

PRODUCERS = 100
PROCESSES = 2
BODY = b"".join(b"%d," % number for number in range(PRODUCERS))


@pytest.fixture
def options() -> PostgresOptions:
    return PostgresOptions(shared_cluster().dsn, schema=new_schema())


@pytest.fixture
def old(options: PostgresOptions) -> PostgresOptions:
    """A schema of version 1: the row of a stream has all of its producers, however many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "SCHEMA_VERSION", 1)
        patch.setattr(entries, "INLINE_ENTRIES_MAX", 10**9)
        store = opened(options)
        store.create(create_request("few", b"words"))
        store.create(create_request("many"))
        for number in range(PRODUCERS):
            store.append(append_request("many", b"%d," % number, producer=(f"p{number}", 0, 0)))
        store.create(create_request("fork", source="many"))
        store.close()
    assert version(options) == 1
    return options


def opened(options: PostgresOptions) -> StreamStore:
    store = StreamStore(PostgresStorage(options), Limits())
    store.open()
    return store


def version(options: PostgresOptions) -> int:
    with psycopg.connect(options.dsn) as operator:
        ((found,),) = operator.execute(f"select version from {options.schema}.schema_version").fetchall()  # type: ignore[call-overload]
        return int(found)


def content(store: StreamStore, name: str) -> bytes:
    return store.read(store.find(name), 0, 1 << 20).data


def test_two_processes_at_once_migrate_once_and_keep_the_streams(old: PostgresOptions) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DS_")}
    environ |= {"DS_POSTGRES__DSN": old.dsn, "DS_POSTGRES__DB_SCHEMA": old.schema}
    command = [sys.executable, "-m", "durable_streams", "--mode", "postgres", "migrate"]
    with psycopg.connect(old.dsn, autocommit=True) as operator:
        operator.execute("select pg_advisory_lock(%s)", (schema._MIGRATION_LOCK,))
        started = [
            subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for _ in range(PROCESSES)
        ]
        await_waiting(operator, started)
        assert version(old) == 1
    told = [process.communicate()[0].decode() for process in started]
    assert [process.returncode for process in started] == [0] * PROCESSES, told
    assert all("are those of this version" in text for text in told), told
    assert version(old) == schema.SCHEMA_VERSION
    store = opened(old)
    assert (content(store, "few"), content(store, "many"), content(store, "fork")) == (b"words", BODY, BODY)
    store.close()


def await_waiting(operator: psycopg.Connection, started: list[subprocess.Popen[bytes]]) -> None:
    """Until every process waits for the lock; it tells nobody but the database."""
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    while operator.execute(waiting).fetchall() != [(PROCESSES,)]:
        assert all(process.poll() is None for process in started)
        time.sleep(0.02)


def test_many_producers_of_version_1_are_all_remembered(old: PostgresOptions) -> None:
    """The first change writes their entries, so that the row can do without them."""
    first, second = opened(old), opened(old)
    first.append(append_request("many", b"new", producer=("p7", 0, 1)))
    for store in (first, second, opened(old)):
        for number in range(PRODUCERS):
            repeated = append_request("many", b"again", producer=(f"p{number}", 0, int(number == 7)))
            assert store.append(repeated).duplicate
        assert content(store, "many") == BODY + b"new"
        store.close()


def test_producers_of_version_1_may_become_few_again(old: PostgresOptions) -> None:
    store = opened(old)
    store.create(create_request("other", source="few"))
    store.append(append_request("few", b" more", producer=("p", 0, 0)))
    store.remove("many")
    store.close()
    store = opened(old)
    assert content(store, "few") == b"words more"
    assert content(store, "fork") == BODY
    store.close()


def test_a_step_that_fails_changes_nothing(old: PostgresOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    good = schema.MIGRATIONS
    broken = (*good[:1], good[1] + "select * from what_is_not_there;")
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    with pytest.raises((ValueError, Unavailable), match="what_is_not_there"):
        opened(old)
    assert version(old) == 1
    monkeypatch.setattr(schema, "MIGRATIONS", good)
    store = opened(old)
    assert content(store, "many") == BODY
    store.close()


def test_a_database_of_a_newer_server_is_refused(old: PostgresOptions) -> None:
    with psycopg.connect(old.dsn, autocommit=True) as operator:
        operator.execute(f"update {old.schema}.schema_version set version = 1000")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="version 1000"):
        opened(old)


@pytest.fixture(autouse=True)
def no_lock_is_left(options: PostgresOptions) -> Iterator[None]:
    yield
    with psycopg.connect(options.dsn) as operator:
        assert not operator.execute("select 1 from pg_locks where locktype = 'advisory'").fetchall()
