"""Two stores over one storage, as two servers over one database: each with its own, possibly old, idea of the streams.

What one has done the other learns by asking or by losing. Both run in one event loop, so every wait lets the other in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import gevent
import pytest

from durable_streams.protocol.errors import (
    ContentTypeMismatch,
    ProducerSeqGap,
    ProtocolError,
    StaleEpoch,
    StreamClosed,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from durable_streams.protocol.outcomes import Appended, Created
from durable_streams.storage.contract import Storage
from durable_streams.storage.postgres import PostgresOptions, PostgresStorage
from durable_streams.streams.batch import Limits
from tests.contract.driving import Kind, Streams, all_at_once, append_request, create_request, recorded
from tests.contract.shared_storage import Database, SharedStorage
from tests.postgres.cluster import new_schema, shared_cluster

SECONDS_MAX = 30.0


class Pair:
    """Two stores over one storage, and one clock."""

    def __init__(self, folder: Path, storages: Sequence[Storage]) -> None:
        self.storages = storages
        self.a, self.b = (
            Streams(Kind("two", lambda _, storage=storage: storage), folder, Limits())  # type: ignore[misc]
            for storage in storages
        )
        self.b.clock = self.a.clock
        self.b.store._pipeline.clock = self.a.clock

    def close(self) -> None:
        self.a.close()
        self.b.close()


def shared_storages() -> list[SharedStorage]:
    database = Database()
    return [SharedStorage(database), SharedStorage(database)]


def postgres_storages() -> list[PostgresStorage]:
    options = PostgresOptions(shared_cluster().dsn, schema=new_schema())
    return [PostgresStorage(options), PostgresStorage(options)]


@pytest.fixture(params=[shared_storages, postgres_storages], ids=["shared", "postgres"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """Over a storage that two processes may have."""
    both = Pair(tmp_path, request.param())
    yield both
    both.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Pair, list[SharedStorage]]]:
    """Over a storage that tells what it was asked."""
    storages = shared_storages()
    both = Pair(tmp_path, storages)
    yield both, storages
    both.close()


def test_what_one_has_written_the_other_reads(pair: Pair) -> None:
    pair.a.create()
    for number in range(50):
        writer, reader = (pair.a, pair.b) if number % 2 else (pair.b, pair.a)
        writer.append(body=b"%02d" % number)
        assert reader.read()[-2:] == b"%02d" % number


def test_nothing_is_appended_after_a_close(pair: Pair) -> None:
    pair.a.create(body=b"abc")
    assert pair.b.find().tail == 3
    pair.a.append(body=b"last", close=True)
    # To b it is open, and three bytes long.
    known = pair.storages[1].known("s")
    assert known is not None
    assert not known.closed
    with pytest.raises(StreamClosed):
        pair.b.append(body=b"too late")
    assert pair.a.read() == b"abclast"
    assert pair.b.find().closed


def test_nothing_is_appended_to_what_has_gone_or_is_another_stream_by_now(pair: Pair) -> None:
    pair.a.create(body=b"abc")
    pair.b.find()
    pair.a.remove()
    with pytest.raises(StreamNotFound):
        pair.b.append()
    pair.a.create(body=b"new", content_type="text/html")
    with pytest.raises(ContentTypeMismatch):
        pair.b.append()
    assert pair.b.append(body=b"er", content_type="text/html").tail == 5


def test_a_name_is_created_once(pair: Pair) -> None:
    outcomes = all_at_once(
        *[partial(store.create, create_request(body=b"first")) for store in (pair.a.store, pair.b.store)] * 5
    )
    created = [outcome for outcome in outcomes if isinstance(outcome, Created)]
    assert len(created) == 10
    assert [outcome.existed for outcome in created].count(False) == 1
    with pytest.raises(StreamExists):
        pair.b.create(content_type="text/html")


def test_no_producer_is_lost(pair: Pair) -> None:
    """Each of 40 producers writes 10 times, by either store; nothing is there twice, none is forgotten."""
    pair.a.create()
    stores = (pair.a.store, pair.b.store)

    def write(number: int) -> None:
        for seq in range(10):
            request = append_request(body=b"%02d.%d;" % (number, seq), producer=(f"p{number}", 0, seq))
            first = stores[(number + seq) % 2].append(request)
            assert not first.duplicate
            # The other has to know it too.
            assert stores[(number + seq + 1) % 2].append(request).duplicate

    all_at_once_checked(*[partial(write, number) for number in range(40)])
    state = pair.a.find()
    assert {id: known.seq for id, known in state.producers.items()} == {f"p{n}": 9 for n in range(40)}
    pieces = pair.b.read().split(b";")[:-1]
    assert sorted(pieces) == sorted(b"%02d.%d" % (n, seq) for n in range(40) for seq in range(10))


def test_a_producer_is_fenced_everywhere(pair: Pair) -> None:
    pair.a.create()
    pair.a.append(producer=("p", 0, 0))
    pair.b.append(producer=("p", 1, 0))
    with pytest.raises(StaleEpoch):
        pair.a.append(producer=("p", 0, 1))
    with pytest.raises(ProducerSeqGap):
        pair.a.append(producer=("p", 1, 2))


def test_no_reference_is_lost(pair: Pair) -> None:
    pair.a.create(body=b"abc")
    stores = (pair.a.store, pair.b.store)
    requests = [create_request(f"fork {number}", b"", None, source="s") for number in range(20)]
    outcomes = all_at_once(*[partial(stores[n % 2].create, request) for n, request in enumerate(requests)])
    assert all(isinstance(outcome, Created) for outcome in outcomes)
    forks = {pair.a.find(request.name).config.uid: request.name for request in requests}
    assert {uid: reference.name for uid, reference in pair.b.find().forks.items()} == forks
    pair.b.remove()
    for request in requests:
        assert pair.a.read(request.name) == b"abc"
    with pytest.raises(StreamGone):
        pair.a.find()
    for number, request in enumerate(requests):
        (pair.a, pair.b)[number % 2].remove(request.name)
    assert pair.a.contents() == {}


def test_readers_that_ask_in_one_turn_of_the_loop_share_one_question(
    watched: tuple[Pair, list[SharedStorage]],
) -> None:
    pair, storages = watched
    names = [f"s{number}" for number in range(30)]
    for name in names:
        pair.a.create(name, name.encode())
    questions = storages[1].questions
    questions.clear()
    found = all_at_once(*[partial(pair.b.store.find, name) for name in names * 3])
    assert all(not isinstance(state, ProtocolError) for state in found)
    assert [sorted(question) for question in questions] == [sorted(names)]


def test_a_question_that_fails_fails_for_all_who_asked_and_for_no_other(
    watched: tuple[Pair, list[SharedStorage]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, storages = watched
    pair.a.create()
    with monkeypatch.context() as broken:
        broken.setattr(storages[0], "find", lambda names: 1 // 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                pair.a.find()
    assert pair.a.find().tail == 0


def test_writes_are_not_validated_before_they_are_committed(
    watched: tuple[Pair, list[SharedStorage]],
) -> None:
    pair, storages = watched
    pair.a.create()
    pair.a.append()
    storages[0].questions.clear()
    for _ in range(5):
        pair.a.append()
    assert storages[0].questions == []
    assert storages[0].losses == 0


def test_random_requests_by_both_leave_what_one_after_the_other_would_leave(pair: Pair) -> None:
    """Every accepted append is there once, in the order that its answer gave it."""
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    accepted: dict[str, list[tuple[int, bytes]]] = {}

    def live(number: int) -> None:
        random, streams = Random(seed + number), (pair.a, pair.b)[number % 2]
        for step in range(60):
            name = f"s{random.randrange(4)}"
            body = b"%d.%d;" % (number, step)
            act(random, streams, name, body)
            if random.random() < 0.2:
                gevent.sleep(0)

    def act(random: Random, streams: Streams, name: str, body: bytes) -> None:
        kind = random.random()
        try:
            if kind < 0.75:
                outcome = streams.store.append(append_request(name, body))
                assert isinstance(outcome, Appended)
                accepted.setdefault(outcome.state.config.uid, []).append((outcome.tail, body))
            elif kind < 0.9:
                streams.store.create(create_request(name))
            elif kind < 0.95:
                streams.store.append(append_request(name, b"", close=True))
            else:
                streams.store.remove(name)
        except ProtocolError:
            pass

    all_at_once_checked(*[partial(live, number) for number in range(8)])
    for name in pair.storages[1].names("", "", 100):
        state = recorded(pair.storages[0], name)
        assert state is not None
        pieces = sorted(accepted.get(state.config.uid, []))
        assert pair.a.storage.read(state, 0, state.tail) == b"".join(body for _, body in pieces)
        position = 0
        for tail, body in pieces:
            position += len(body)
            assert tail == position


def all_at_once_checked(*calls: Any) -> None:
    """Run all; a failure of one is a failure of the test."""
    with gevent.Timeout(SECONDS_MAX):
        gevent.joinall([gevent.spawn(call) for call in calls], raise_error=True)
