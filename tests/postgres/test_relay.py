"""Wakes between processes, and that payload stays whole while it is merged and purged."""

from __future__ import annotations

import random
from collections.abc import Callable

import gevent
import psycopg
from gevent.event import Event

from durable_streams.service import StreamService
from durable_streams.storage.abilities import Wake
from durable_streams.storage.postgres import PostgresOptions, PostgresStorage
from durable_streams.storage.postgres.relay import PAYLOAD_BYTES_MAX, _payloads
from durable_streams.streams.batch import Limits
from tests.contract.driving import append_request, create_request
from tests.postgres.cluster import new_schema, shared_cluster

SECONDS_MAX = 180.0


def worker(schema: str) -> StreamService:
    service = StreamService(PostgresStorage(PostgresOptions(shared_cluster().dsn, schema=schema)), Limits())
    service.open()
    return service


def woken(service: StreamService, name: str, change: Callable[[], object]) -> bool:
    with service.hub.watch(name) as watch:
        event: Event = watch.event()
        change()
        return bool(event.wait(SECONDS_MAX))


def test_an_append_in_one_process_wakes_a_reader_of_another() -> None:
    schema = new_schema()
    one, other = worker(schema), worker(schema)
    try:
        one.store.create(create_request())
        assert woken(other, "s", lambda: one.store.append(append_request(body=b"news")))
        assert other.store.find("s").tail == 4
    finally:
        one.close()
        other.close()


def test_a_wake_arrives_after_the_listening_session_was_lost() -> None:
    schema = new_schema()
    one, other = worker(schema), worker(schema)
    try:
        one.store.create(create_request())
        with psycopg.connect(shared_cluster().dsn, autocommit=True) as operator:
            operator.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen%'"
            )
        assert woken(other, "s", lambda: one.store.append(append_request(body=b"news")))
    finally:
        one.close()
        other.close()


def test_many_wakes_share_messages_that_are_short_enough() -> None:
    wakes = [Wake("näme/" * 40 + str(number), "uid", number, False) for number in range(500)]
    payloads = list(_payloads(wakes))
    assert all(len(payload) <= PAYLOAD_BYTES_MAX + 2 for payload in payloads)
    assert len(payloads) < len(wakes) / 10


def test_merging_small_chunks_changes_no_byte() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    service = worker(new_schema())
    try:
        storage = service.store.storage
        assert isinstance(storage, PostgresStorage)
        service.store.create(create_request())
        written = b""
        for _ in range(200):
            body = chance.randbytes(chance.randrange(1, 900))
            service.store.append(append_request(body=body))
            written += body
            at = chance.randrange(len(written))
            state = service.store.find("s")
            assert service.store.read(state, at, 1 << 30).data == written[at:]
        while storage._background._ready:
            gevent.sleep(0.01)
        storage._pages._pages.clear()
        assert service.store.read(service.store.find("s"), 0, 1 << 30).data == written
        ((chunks,),) = storage._ask(b"count", b"select count(*) from chunks", [])
        assert chunks is not None
        assert int.from_bytes(chunks) < 200
    finally:
        service.close()
