"""A database that goes away, at every moment of a commit: nothing acknowledged is lost, nothing is written twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import gevent
import psycopg
import pytest

from durable_streams.protocol.errors import OutcomeUnknown, ProtocolError, Unavailable
from durable_streams.storage.postgres import PostgresOptions, PostgresStorage
from durable_streams.storage.postgres import writer as writer_module
from durable_streams.storage.postgres.connection import Connection, ConnectionLost, Rows
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore
from tests.contract.driving import append_request, create_request
from tests.postgres.cluster import Cluster, new_schema, shared_cluster

PATIENCE_S = 180.0


@pytest.fixture
def cluster() -> Cluster:
    return shared_cluster()


@pytest.fixture
def open_store(cluster: Cluster) -> Iterator[Callable[[], StreamStore]]:
    """Opens stores over one schema, as several workers would."""
    schema = new_schema()
    opened: list[StreamStore] = []

    def open_one() -> StreamStore:
        store = StreamStore(PostgresStorage(PostgresOptions(cluster.dsn, schema=schema)), Limits())
        store.open()
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


def content(store: StreamStore, name: str = "s") -> bytes:
    state = store.find(name)
    return store.read(state, 0, 1 << 30).data


def break_once(monkeypatch: pytest.MonkeyPatch, when: str) -> list[str]:
    """The next commit's session breaks ``before`` or ``after`` the database has carried it out."""
    broken: list[str] = []
    original = Connection.run

    def run(
        self: Connection, name: bytes, sql: bytes, parameters: list[bytes | None], seconds: float
    ) -> Rows:
        if name == b"commit" and not broken:
            broken.append(when)
            if when == "after":
                original(self, name, sql, parameters, seconds)
            self.close()
            raise ConnectionLost("cut by the test")
        return original(self, name, sql, parameters, seconds)

    monkeypatch.setattr(Connection, "run", run)
    return broken


def test_a_commit_whose_answer_was_lost_is_found_to_be_there(
    open_store: Callable[[], StreamStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store.create(create_request())
    assert break_once(monkeypatch, "after") == []
    assert store.append(append_request(body=b"once")).tail == 4
    assert content(store) == b"once"
    assert content(open_store()) == b"once"


def test_a_commit_that_never_arrived_is_refused_and_changes_nothing(
    open_store: Callable[[], StreamStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store.create(create_request())
    break_once(monkeypatch, "before")
    with pytest.raises(Unavailable):
        store.append(append_request(body=b"lost"))
    assert store.append(append_request(body=b"next")).tail == 4
    assert content(store) == b"next"


def test_a_commit_that_comes_late_is_fenced(
    open_store: Callable[[], StreamStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of a statement may still lie in the network when its outcome has been asked for."""
    store = open_store()
    store.create(create_request())
    late: list[tuple[bytes, bytes, list[bytes | None]]] = []
    original = Connection.run

    def run(
        self: Connection, name: bytes, sql: bytes, parameters: list[bytes | None], seconds: float
    ) -> Rows:
        if name == b"commit" and not late:
            late.append((name, sql, parameters))
            self.close()
            raise ConnectionLost("cut by the test")
        return original(self, name, sql, parameters, seconds)

    monkeypatch.setattr(Connection, "run", run)
    with pytest.raises(Unavailable):
        store.append(append_request(body=b"late"))
    assert isinstance(store.storage, PostgresStorage)
    with store.storage._pool.session() as session, pytest.raises(Exception, match="fenced"):
        session.run(*late[0], 5.0)
    assert content(store) == b""


def test_sessions_that_the_database_ends_cost_nothing_acknowledged(
    cluster: Cluster, open_store: Callable[[], StreamStore]
) -> None:
    store = open_store()
    store.create(create_request())
    acknowledged: list[bytes] = []
    refused = 0
    with psycopg.connect(cluster.dsn, autocommit=True) as operator:
        for number in range(60):
            if number % 6 == 0:
                operator.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name = 'durable-streams-server'"
                )
            body = b"%d," % number
            try:
                store.append(append_request(body=body, producer=("p", 0, len(acknowledged))))
                acknowledged.append(body)
            except Unavailable:
                refused += 1
    assert content(store) == b"".join(acknowledged)
    assert len(acknowledged) + refused == 60
    assert len(acknowledged) > 40


def test_a_crash_of_the_database_is_survived_by_workers_and_by_what_was_acknowledged(
    cluster: Cluster, open_store: Callable[[], StreamStore]
) -> None:
    stores = [open_store(), open_store()]
    stores[0].create(create_request())
    acknowledged: list[bytes] = []

    def write(store: StreamStore, who: int) -> None:
        for number in range(40):
            body = b"%d.%d," % (who, number)
            with suppress(ProtocolError):
                store.append(append_request(body=body))
                acknowledged.append(body)
            gevent.sleep(0.01)

    writers = [gevent.spawn(write, store, who) for who, store in enumerate(stores)]
    with gevent.Timeout(PATIENCE_S):
        while len(acknowledged) < 10:
            gevent.sleep(0.001)
    cluster.stop("immediate")
    cluster.start()
    gevent.joinall(writers, timeout=240, raise_error=True)
    parts = content(stores[1]).split(b",")[:-1]
    assert len(parts) == len(set(parts)), "nothing is written twice"
    missing = [body for body in acknowledged if body[:-1] not in parts]
    assert not missing, "what was acknowledged is there"


def test_an_outcome_that_nobody_can_tell_is_said_to_be_unknown_and_the_storage_goes_on(
    open_store: Callable[[], StreamStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store.create(create_request())
    monkeypatch.setattr(writer_module, "RESOLVE_S_MAX", 0.0)
    original = Connection.run
    cuts = 2

    def run(
        self: Connection, name: bytes, sql: bytes, parameters: list[bytes | None], seconds: float
    ) -> Rows:
        nonlocal cuts
        if name in (b"commit", b"fence") and cuts:
            cuts -= 1
            self.close()
            raise ConnectionLost("cut by the test")
        return original(self, name, sql, parameters, seconds)

    monkeypatch.setattr(Connection, "run", run)
    with pytest.raises(OutcomeUnknown):
        store.append(append_request(body=b"unknown"))
    assert store.append(append_request(body=b"known")).tail == 5
    assert not store.failed


def test_a_database_that_is_not_there_is_named_in_one_line(tmp_path: Path) -> None:
    storage = PostgresStorage(PostgresOptions(f"host={tmp_path} dbname=none"))
    with pytest.raises(Unavailable) as caught:
        storage.open()
    assert "cannot be used" in caught.value.cause
    assert "\n" not in caught.value.cause


def test_of_two_addresses_the_one_that_takes_writes_is_used(cluster: Cluster, tmp_path: Path) -> None:
    """As docs/scaling.md advises for a database that fails over."""
    hosts = f"host={tmp_path},{cluster.folder} target_session_attrs=read-write"
    dsn = f"{hosts} user=streams dbname=postgres"
    store = StreamStore(PostgresStorage(PostgresOptions(dsn, schema=new_schema())), Limits())
    store.open()
    store.create(create_request(body=b"there"))
    assert content(store) == b"there"
    store.close()
