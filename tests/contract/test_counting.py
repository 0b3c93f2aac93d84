"""``limits.max_streams`` where several processes share a storage: all streams count, whoever has made them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from gevent.event import Event

from durable_streams.protocol.errors import LimitReached
from durable_streams.storage.contract import Storage
from durable_streams.streams.batch import Limits
from durable_streams.streams.sweeper import RECOUNT_S, Sweeper
from tests.contract.conftest import OpenStreams
from tests.contract.driving import Kind, Streams
from tests.contract.test_two_stores import postgres_storages, shared_storages

Pair = tuple[Streams, Streams]
STREAMS_MAX = 3


@pytest.fixture(params=[shared_storages, postgres_storages], ids=["shared", "postgres"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """Two stores over one storage, and one clock."""
    build: Callable[[], Sequence[Storage]] = request.param
    limits = Limits(streams_max=STREAMS_MAX)
    a, b = (Streams(Kind("two", lambda _, storage=storage: storage), tmp_path, limits) for storage in build())  # type: ignore[misc]
    b.clock = a.clock
    b.store._pipeline.clock = a.clock
    yield a, b
    a.close()
    b.close()


def test_internal_streams_are_not_counted(open_streams: OpenStreams) -> None:
    streams = open_streams()
    assert streams.storage.count() == 0
    for name in ("a", "b", "__dsx", "~"):
        streams.create(name)
    streams.store.documents.save("key", b"value", None)
    assert streams.storage.count() == 4
    streams.remove("b")
    assert streams.storage.count() == 3


def recount(streams: Streams) -> None:
    streams.store.writes.budget.count_streams(streams.storage)


def test_what_others_create_and_remove_is_counted(pair: Pair) -> None:
    a, b = pair
    a.create("1")
    b.create("2")
    a.create("3")
    b.create("4")
    for streams in pair:
        recount(streams)
        with pytest.raises(LimitReached, match=r"limits\.max_streams = 3"):
            streams.create("5")
    b.remove("1")
    b.remove("2")
    b.create("5")
    with pytest.raises(LimitReached):
        a.create("6")
    b.remove("5")
    recount(a)
    a.create("6")


def test_the_sweeper_of_every_process_counts_again(pair: Pair) -> None:
    a, b = pair
    sweepers = [Sweeper(streams.store) for streams in pair]
    for name in ("1", "2", "3"):
        a.create(name)
    for elapsed_s, known in ((0.0, 0), (RECOUNT_S, 3)):
        b.clock.now += elapsed_s
        for sweeper in sweepers:
            sweeper._round(Event())
        assert b.store.writes.budget.streams == known
    with pytest.raises(LimitReached):
        b.create("4")
