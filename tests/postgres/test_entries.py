"""Producers and forks of a stream that has many: rows of their own, whatever comes, changes and goes, and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from durable_streams.protocol.state import (
    NO_EXPIRY,
    ForkReference,
    ProducerState,
    StreamConfig,
    StreamState,
)
from durable_streams.storage.contract import Change
from durable_streams.storage.postgres import PostgresOptions, PostgresStorage
from durable_streams.storage.postgres.entries import INLINE_ENTRIES_MAX
from tests.contract.shared_storage import changed_entries
from tests.postgres.cluster import new_schema, shared_cluster

CONFIG = StreamConfig("s", "i", "text/plain", NO_EXPIRY, None, 1)


class Two:
    """Two processes over one database, and an operator's connection."""

    def __init__(self, schema: str) -> None:
        options = PostgresOptions(shared_cluster().dsn, schema=schema)
        self.one, self.other = PostgresStorage(options), PostgresStorage(options)
        self.one.open()
        self.other.open()
        self._schema = schema

    def entries(self) -> int:
        with psycopg.connect(shared_cluster().dsn, autocommit=True) as operator:
            ((count,),) = operator.execute(f"select count(*) from {self._schema}.entries").fetchall()
            return int(count)

    def close(self) -> None:
        self.one.close()
        self.other.close()


@pytest.fixture
def two() -> Iterator[Two]:
    both = Two(new_schema())
    yield both
    both.close()


def producers(numbers: range, seq: int) -> dict[str, ProducerState]:
    return {f"producer {number}": ProducerState(1, seq, 1) for number in numbers}


def references(numbers: range) -> dict[str, ForkReference]:
    return {f"uid {number}": ForkReference(f"fork {number}", float(number)) for number in numbers}


def commit(storage: PostgresStorage, before: StreamState | None, after: StreamState | None) -> None:
    entries = () if after is None else changed_entries(before, after)
    change = Change(before, after, [], entries)
    assert not storage.commit(0, [(change,)], {})


def found(storage: PostgresStorage) -> StreamState:
    state = storage.find(["s"])["s"]
    assert isinstance(state, StreamState)
    return state


def plain(state: StreamState) -> tuple[object, ...]:
    known = {id: (each.epoch, each.seq, each.seen_at) for id, each in state.producers.items()}
    return known, dict(state.forks), state.revision


@pytest.mark.parametrize("count", [INLINE_ENTRIES_MAX, INLINE_ENTRIES_MAX + 1, 3000])
def test_entries_come_grow_change_and_go_and_the_other_process_sees_it(two: Two, count: int) -> None:
    few, many = producers(range(3), 0), producers(range(count), 5)
    moved = many | producers(range(7), 6)
    fewer = {id: state for id, state in moved.items() if not id.endswith("2")}
    steps = [
        {"producers": few},
        {"producers": many, "forks": references(range(count))},
        {"producers": moved, "forks": references(range(2, count + 2))},
        {"producers": fewer, "forks": references(range(4))},
        {"producers": moved, "forks": references(range(4))},
        {"producers": few},
        {"producers": few | producers(range(10, 10 + count), 2)},
    ]
    before = None
    for revision, step in enumerate(steps, 1):
        after = replace(StreamState(CONFIG, 0, 1.0), revision=revision, **step)
        writer, reader = (two.one, two.other) if revision % 2 else (two.other, two.one)
        commit(writer, before, after)
        for storage in (writer, reader):
            assert plain(found(storage)) == plain(after)
        before = found(reader)
        is_elsewhere = max(len(after.producers), len(after.forks)) > INLINE_ENTRIES_MAX
        assert two.entries() == (len(after.producers) + len(after.forks) if is_elsewhere else 0)


def test_who_loses_a_stream_learns_of_all_its_producers(two: Two) -> None:
    first = StreamState(CONFIG, 0, 1.0, producers=producers(range(1000), 0))
    commit(two.one, None, first)
    old = found(two.other)
    after = replace(first, producers=first.producers | producers(range(1), 1), revision=2)
    commit(two.one, first, after)
    late = replace(old, producers={**old.producers, **producers(range(1, 2), 1)}, revision=2)
    change = Change(old, late, [], ("producer 1",))
    assert set(two.other.commit(0, [(change,)], {})) == {"s"}
    known = two.other.known("s")
    assert known is not None
    assert plain(known) == plain(after)
    assert plain(found(two.one)) == plain(after)


def test_an_append_writes_no_more_when_there_are_many(two: Two) -> None:
    sizes = []
    for count in (INLINE_ENTRIES_MAX + 1, 5000):
        state = StreamState(CONFIG, 0, 1.0, producers=producers(range(count), 0))
        commit(two.one, two.one.known("s"), state)
        after = replace(state, producers=state.producers | producers(range(1), 1), revision=2)
        batch = []
        commit_batch = two.one._writers[0].commit
        with pytest.MonkeyPatch.context() as watching:
            watching.setattr(two.one._writers[0], "commit", lambda b: batch.append(b) or commit_batch(b))  # noqa: B023
            commit(two.one, state, after)
        sizes.append(sum(map(len, batch[0].parameters("w", 1))))
        commit(two.one, after, None)
    assert sizes[0] == sizes[1]


def test_entries_of_a_stream_that_is_gone_are_deleted(two: Two) -> None:
    state = StreamState(CONFIG, 0, 1.0, producers=producers(range(5000), 0))
    commit(two.one, None, state)
    commit(two.one, state, None)
    while two.one._background._has_removed:
        two.one._background._purge()
    assert two.entries() == 0
