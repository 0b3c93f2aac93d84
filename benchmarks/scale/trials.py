"""Measurements in process, over a store in a database: appends, a stream that has grown, idle streams, catch-up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import gevent

from benchmarks.scale.clocks import Clocks
from benchmarks.storage.writing import BYTES, PAYLOAD
from durable_streams.protocol.requests import Append, Create, Producer
from durable_streams.protocol.state import NO_EXPIRY
from durable_streams.serving.gc_tuning import tune_gc
from durable_streams.storage.postgres import PostgresOptions, PostgresStorage
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore

KIBIBYTE, MEBIBYTE, GIBIBYTE = 1 << 10, 1 << 20, 1 << 30
FILLING_BYTES: Final = MEBIBYTE
PAGE_BYTES: Final = MEBIBYTE
STREAM: Final = "s"
CREATED_AT_ONCE: Final = 512

Figures = dict[str, Any]


@contextmanager
def opened(dsn: str, schema: str) -> Iterator[StreamStore]:
    """The store as the server opens it; no page is cached, so that reads are reads."""
    options = PostgresOptions(dsn, schema=schema, cache_bytes=0)
    store = StreamStore(PostgresStorage(options), Limits())
    store.open()
    tune_gc()
    try:
        yield store
    finally:
        store.close()


def measured(postmaster: int, count: int, work: Callable[[], object]) -> Figures:
    """CPU us of this process and of the database for each of the `count` things that `work` does."""
    clocks = Clocks(postmaster)
    work()
    return {"server_us": clocks.own_s() / count * 1e6, "database_us": clocks.database_s() / count * 1e6}


def append_in_turn(
    dsn: str, schema: str, postmaster: int, writers: int, producers: int, appends: int
) -> Figures:
    """`writers` wait for their answers on one stream, each for the producer whose turn it is; 0 producers: none."""
    with opened(dsn, schema) as store:
        store.create(Create(STREAM, BYTES, NO_EXPIRY, False, b""))
        turns = itertools.count()

        def write(count: int) -> None:
            for _ in range(count):
                # Nothing switches between here and the queue of the pipeline, so the numbers stay in order.
                turn = next(turns)
                producer = Producer(f"p{turn % producers}", 0, turn // producers) if producers else None
                store.append(Append(STREAM, BYTES, PAYLOAD, producer=producer))

        def run(jobs: int, each: int) -> None:
            for job in gevent.joinall([gevent.spawn(write, each) for _ in range(jobs)]):
                job.get()

        for done in range(0, producers, CREATED_AT_ONCE):
            run(min(CREATED_AT_ONCE, producers - done), 1)
        run(writers, max(1, appends // writers // 5))
        return measured(postmaster, appends // writers * writers, lambda: run(writers, appends // writers))


def append_to_grown(dsn: str, schema: str, postmaster: int, stream_bytes: int, appends: int) -> Figures:
    """Appends one after the other to a stream of that size, which is made once and stays in the schema."""
    with opened(dsn, schema) as store:
        _fill(store, stream_bytes)

        def write(count: int) -> None:
            for _ in range(count):
                store.append(Append(STREAM, BYTES, PAYLOAD))

        write(appends // 5)
        return measured(postmaster, appends, lambda: write(appends))


def catch_up(dsn: str, schema: str, postmaster: int, stream_bytes: int) -> Figures:
    """MB/s a core, of this process and the database together, in pages of 1 MiB."""
    with opened(dsn, schema) as store:
        _fill(store, stream_bytes)

        def read() -> None:
            state = store.find(STREAM)
            for start in range(0, stream_bytes, PAGE_BYTES):
                assert len(store.read(state, start, PAGE_BYTES).data) == PAGE_BYTES

        read()
        found = measured(postmaster, 1, read)
    return found | {"mb_per_core_s": stream_bytes / (found["server_us"] + found["database_us"])}


def create_idle(dsn: str, schema: str, postmaster: int, streams: int) -> Figures:
    """What the database keeps of streams without content."""
    with opened(dsn, schema) as store:
        names = (f"idle/{number // 1000}/{number % 1000}" for number in range(streams))

        def create(name: str) -> None:
            store.create(Create(name, BYTES, NO_EXPIRY, False, b""))

        def fill() -> None:
            for some in iter(lambda: list(itertools.islice(names, CREATED_AT_ONCE)), []):
                for job in gevent.joinall([gevent.spawn(create, name) for name in some]):
                    job.get()

        found = measured(postmaster, streams, fill)
        assert isinstance(store.storage, PostgresStorage)
        return found | {"streams": streams, "bytes": store.storage.figures()["database_bytes"]}


def _fill(store: StreamStore, stream_bytes: int) -> None:
    store.create(Create(STREAM, BYTES, NO_EXPIRY, False, b""))
    for left in range(stream_bytes - store.find(STREAM).tail, 0, -FILLING_BYTES):
        store.append(Append(STREAM, BYTES, b"x" * min(left, FILLING_BYTES)))
