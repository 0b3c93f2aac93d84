"""Heads are pickled by hand; ZODB has to find in a record what it would have put there itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import zodbpickle.pickle
from ZODB.Connection import Connection
from ZODB.DB import DB
from ZODB.MappingStorage import MappingStorage
from ZODB.serialize import ObjectWriter, get_refs, referencesf

from durable_streams.protocol.state import NO_EXPIRY, ProducerState, StreamConfig, StreamState
from durable_streams.storage.zodb.model import Head
from durable_streams.storage.zodb.writing import RecordWriter

STATE = StreamState(StreamConfig("s", "uid", "text/plain", NO_EXPIRY, None, 1), tail=0, touched_at=1.0)
MANY_PRODUCERS = {f"p{number}": ProducerState(0, number) for number in range(40)}


def head_of(connection: Connection, length: int, producers: dict[str, ProducerState] | None = None) -> Head:
    head = Head(STATE)
    connection.add(head)
    head.record(None, replace(STATE, producers=producers or {}))
    for start in range(0, length, 1000):
        head.append([b"x" * min(1000, length - start)])
    return head


def heads(connection: Connection) -> Iterator[Head]:
    """With no reference, and with references of every kind."""
    for length in (0, 100, 3000, 20_000, 62_000, 200_000):
        for producers in ({}, MANY_PRODUCERS):
            yield head_of(connection, length, producers)


def decoded(record: bytes) -> tuple[Any, Any, list[Any]]:
    """Class, state, and what it refers to, in order."""
    references: list[Any] = []
    unpickler = zodbpickle.pickle.Unpickler(BytesIO(record))
    unpickler.persistent_load = lambda reference: references.append(reference) or len(references)
    return unpickler.load(), unpickler.load(), references


def test_a_record_is_read_as_if_zodb_had_written_it() -> None:
    connection = DB(MappingStorage()).open()
    most = 0
    for head in heads(connection):
        record = RecordWriter(connection).serialize(head)
        expected = ObjectWriter(head).serialize(head)
        assert decoded(record) == decoded(expected)
        assert referencesf(record) == referencesf(expected)
        assert get_refs(record) == get_refs(expected)
        most = max(most, len(referencesf(record)))
    assert most > 3


def test_what_is_new_gets_an_id_and_is_written_after_the_head_that_refers_to_it() -> None:
    connection = DB(MappingStorage()).open()
    head = head_of(connection, 20_000)
    connection.add(head.chunks[0])
    writer = RecordWriter(connection)
    record = writer.serialize(head)
    assert referencesf(record) == [chunk._p_oid for chunk in head.chunks]
    assert sorted(map(id, writer)) == sorted(map(id, head.chunks[1:]))


def test_other_objects_are_left_to_zodb() -> None:
    connection = DB(MappingStorage()).open()
    chunk = head_of(connection, 20_000).chunks[0]
    connection.add(chunk)
    assert RecordWriter(connection).serialize(chunk) == ObjectWriter(chunk).serialize(chunk)
