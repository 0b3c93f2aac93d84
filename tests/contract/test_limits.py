"""Limits of payload: exact to the byte, also for racing writers, and nothing is changed by what exceeds them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from durable_streams.protocol.errors import InvalidJson, TooLarge, Unavailable
from durable_streams.protocol.outcomes import Appended, Created
from durable_streams.streams.batch import Limits
from tests.contract.conftest import OpenStreams
from tests.contract.driving import (
    KINDS,
    Streams,
    all_at_once,
    append_request,
    create_request,
    without_revisions,
)

LIMIT = 1000


@pytest.fixture
def small(open_streams: OpenStreams) -> Streams:
    """Streams of at most LIMIT bytes each."""
    return open_streams(stream_bytes_max=LIMIT)


@pytest.fixture(params=[kind.param() for kind in KINDS if kind.storage.counts_as_memory])
def crowded(request: pytest.FixtureRequest, tmp_path: Path, payload_alone: None) -> Iterator[Streams]:
    """At most LIMIT bytes over all streams, where payload lies in memory."""
    streams = Streams(request.param, tmp_path / "data", Limits(memory_bytes_max=LIMIT))
    yield streams
    streams.close()


# -- one stream -----------------------------------------------------------------------------------------------------


def test_a_stream_takes_its_last_byte_and_not_one_more(small: Streams) -> None:
    small.create(body=b"x" * 400)
    small.append(body=b"y" * 600)
    before = small.contents()
    with pytest.raises(TooLarge, match="Stream size limit exceeded") as refused:
        small.append()
    assert refused.value.status == 413
    assert small.contents() == before
    assert small.close_stream().closed


def test_a_first_body_that_is_too_large_makes_no_stream(small: Streams) -> None:
    with pytest.raises(TooLarge):
        small.create(body=b"x" * (LIMIT + 1))
    assert small.contents() == {}
    small.create(body=b"x" * LIMIT)


def test_racing_writers_fill_a_stream_exactly(small: Streams) -> None:
    small.create()
    requests = [append_request(body=b"%03d" % number + b"." * 27) for number in range(50)]
    outcomes = all_at_once(*[partial(small.store.append, request) for request in requests])
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Appended)]
    assert len(accepted) == LIMIT // 30
    assert all(isinstance(outcome, Appended | TooLarge) for outcome in outcomes)
    assert small.find().tail == 30 * len(accepted)
    assert len(small.read()) == small.find().tail


def test_what_a_refused_append_names_is_not_remembered(small: Streams) -> None:
    small.create(body=b"x" * 999)
    with pytest.raises(TooLarge):
        small.append(body=b"yy", seq="m", producer=("p", 3, 0))
    state = small.find()
    assert (state.stream_seq, dict(state.producers)) == (None, {})
    small.append(body=b"y", seq="a", producer=("p", 0, 0))


def test_json_counts_as_it_is_stored(small: Streams) -> None:
    small.create(content_type="application/json")
    small.append(body=b'"' + b"x" * (LIMIT - 3) + b'"', content_type="application/json")
    assert small.find().tail == LIMIT
    with pytest.raises(TooLarge):
        small.append(body=b"1", content_type="application/json")


def test_inherited_bytes_do_not_count(small: Streams) -> None:
    small.create(body=b"x" * LIMIT)
    small.fork("fork", body=b"y" * LIMIT)
    assert len(small.read("fork")) == 2 * LIMIT
    with pytest.raises(TooLarge):
        small.append("fork")
    before = without_revisions(small.contents())
    with pytest.raises(TooLarge):
        small.fork("large", body=b"y" * (LIMIT + 1))
    assert without_revisions(small.contents()) == before


# -- all streams ----------------------------------------------------------------------------------------------------


def test_all_streams_together_take_the_last_byte_and_not_one_more(crowded: Streams) -> None:
    crowded.create("a", b"x" * 400)
    crowded.create("b", b"x" * 500)
    crowded.append("a", b"x" * 100)
    before = without_revisions(crowded.contents())
    for attempt in (
        partial(crowded.append, "b"),
        partial(crowded.create, "c", b"x"),
        partial(crowded.fork, "c", "a", b"x"),
    ):
        with pytest.raises(TooLarge, match="Memory limit exceeded") as refused:
            attempt()
        assert refused.value.status == 413
        assert without_revisions(crowded.contents()) == before
    crowded.create("empty")
    crowded.fork("fork", "a")
    assert crowded.append("b", b"", close=True).closed


def test_racing_writers_fill_the_memory_exactly(crowded: Streams) -> None:
    names = [f"s{number}" for number in range(7)]
    for name in names:
        crowded.create(name)
    requests = [append_request(names[number % 7], b"x" * 30) for number in range(60)]
    creations = [create_request(f"new{number}", b"x" * 30) for number in range(20)]
    calls: list[Any] = [partial(crowded.store.append, request) for request in requests]
    calls += [partial(crowded.store.create, request) for request in creations]
    outcomes = all_at_once(*calls)
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Appended | Created)]
    assert len(accepted) == LIMIT // 30
    assert all(isinstance(outcome, Appended | Created | TooLarge) for outcome in outcomes)
    held = sum(len(crowded.read(name)) for name in crowded.contents())
    assert held == 30 * len(accepted)
    crowded.append(names[0], b"x" * (LIMIT - held))
    with pytest.raises(TooLarge):
        crowded.append(names[0])


def fills_up(streams: Streams) -> None:
    """All of the memory is free."""
    streams.create("all", b"x" * LIMIT)
    with pytest.raises(TooLarge):
        streams.create("more", b"x")
    streams.remove("all")


def test_what_goes_makes_room(crowded: Streams) -> None:
    crowded.create("a", b"x" * LIMIT)
    crowded.remove("a")
    fills_up(crowded)
    crowded.create("b", b"x" * LIMIT, ttl=10)
    crowded.clock.now += 10
    crowded.sweep()
    fills_up(crowded)
    crowded.create("c", b"x" * LIMIT, ttl=10)
    crowded.clock.now += 10
    crowded.create("c", b"y" * LIMIT)
    crowded.remove("c")
    fills_up(crowded)


def test_a_soft_deleted_stream_makes_room_when_its_last_fork_goes(crowded: Streams) -> None:
    crowded.create("a", b"x" * 600)
    crowded.fork("fork", "a", b"x" * 400)
    crowded.remove("a")
    with pytest.raises(TooLarge):
        crowded.create("b", b"x")
    crowded.remove("fork")
    fills_up(crowded)


def test_a_refused_request_holds_nothing(crowded: Streams) -> None:
    crowded.create("a")
    for _ in range(3):
        with pytest.raises(TooLarge):
            crowded.append("a", b"x" * (LIMIT + 1))
        with pytest.raises(TooLarge):
            crowded.fork("fork", "a", b"x" * (LIMIT + 1))
        with pytest.raises(InvalidJson):
            crowded.create("j", b"[" + b"1," * 200, "application/json")
    fills_up(crowded)


def test_streams_that_come_and_go_in_one_breath_hold_nothing(crowded: Streams) -> None:
    for _ in range(3):
        all_at_once(
            partial(crowded.store.create, create_request("a", b"x" * 300)),
            partial(crowded.store.append, append_request("a", b"x" * 300)),
            partial(crowded.store.remove, "a"),
            partial(crowded.store.create, create_request("a", b"x" * 200)),
        )
        crowded.remove("a")
    fills_up(crowded)


# -- waiting writes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind.param() for kind in KINDS if not kind.storage.commits_inline])
def test_more_writes_than_may_wait_are_asked_to_come_again(open_streams: OpenStreams) -> None:
    streams = open_streams(pending_writes_max=5)
    streams.create()
    outcomes = all_at_once(*[partial(streams.store.append, append_request())] * 12)
    assert [isinstance(outcome, Appended) for outcome in outcomes] == [True] * 5 + [False] * 7
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes[5:])
    assert streams.find().tail == 5
    streams.append()


@pytest.mark.parametrize("kind", [kind.param() for kind in KINDS if not kind.storage.commits_inline])
def test_large_writes_that_wait_together_make_several_batches(
    open_streams: OpenStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage holds a batch once more while it is written, and opening reads one as a whole."""
    monkeypatch.setattr("durable_streams.streams.pipeline.BATCH_BYTES_MAX", 25)
    streams = open_streams()
    streams.create()
    all_at_once(*[partial(streams.store.append, append_request(body=bytes(10)))] * 12)
    sizes = [sum(map(len, change.appended)) for change in streams.announced]
    # A batch may also end early, because deciding takes too long.
    assert sum(sizes) == 120
    assert max(sizes) <= 30


def test_the_limit_holds_for_the_whole_life_of_a_store(crowded: Streams) -> None:
    for number in range(200):
        crowded.create("s", b"x" * 400)
        crowded.append("s", b"y" * (number % 600), close=True)
        crowded.remove("s")
    fills_up(crowded)
