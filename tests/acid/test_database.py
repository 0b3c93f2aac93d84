"""All objects of a transaction are written with one pickler; ZODB has to find what it would have written itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import transaction
from ZODB.DB import DB
from ZODB.MappingStorage import MappingStorage

from durable_streams.protocol.state import NO_EXPIRY, ProducerState, StreamConfig, StreamState
from durable_streams.storage.zodb.database import ShardDatabase
from durable_streams.storage.zodb.model import Head

STATE = StreamState(StreamConfig("s", "uid", "text/plain", NO_EXPIRY, None, 1.0), tail=0, touched_at=1.0)
MANY_PRODUCERS = {f"p{number}": ProducerState(0, number, 1) for number in range(40)}


def heads() -> Iterator[Head]:
    """With no reference, and with references of every kind."""
    for length in (0, 100, 3000, 20_000, 62_000, 200_000):
        for producers in ({}, MANY_PRODUCERS):
            head = Head(STATE)
            head.record(replace(STATE, producers=producers))
            for start in range(0, length, 1000):
                head.append([b"x" * min(1000, length - start)])
            yield head


def records(database: type[DB]) -> list[bytes]:
    """Everything that two transactions have left, by object id."""
    storage = MappingStorage()
    manager = transaction.TransactionManager()
    connection = database(storage).open(manager)
    for number, head in enumerate(heads()):
        connection.root()[f"first {number}"] = head
    manager.commit()
    for head in list(connection.root().values()):
        head.append([b"y" * 3000])
    for number, head in enumerate(heads()):
        connection.root()[f"second {number}"] = head
    manager.commit()
    return [revision for revisions in storage._data.values() for revision in revisions.values()]


def test_the_records_are_those_that_zodb_writes() -> None:
    ours, stock = records(ShardDatabase), records(DB)
    assert len(ours) > 100
    assert ours == stock
