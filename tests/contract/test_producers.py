"""Idempotent producers: once and in order, over retries, races and restarts (section 5.2.1)."""

from __future__ import annotations

from functools import partial

import pytest

from durable_streams.protocol.errors import BadRequest, ProducerSeqGap, StaleEpoch, StreamClosed
from durable_streams.protocol.outcomes import Appended
from durable_streams.protocol.requests import StreamLimits
from tests.contract.conftest import OpenStreams
from tests.contract.driving import START, Streams, all_at_once, append_request


def accepted(outcome: Appended) -> bool:
    assert outcome.producer is not None
    return not outcome.duplicate


def test_a_producer_goes_through_sessions(streams: Streams) -> None:
    """The auto-claim and restart flows of section 5.2.1, step by step."""
    streams.create()
    steps: list[tuple[int, int, bytes, bool]] = [
        (0, 0, b"a", True),
        (0, 1, b"b", True),
        (0, 1, b"never", False),
        (0, 0, b"never", False),
        (1, 0, b"c", True),
        (1, 0, b"never", False),
        (7, 0, b"d", True),
        (7, 1, b"e", True),
    ]
    for epoch, seq, body, is_new in steps:
        assert accepted(streams.append(body=body, producer=("p", epoch, seq))) is is_new
    for epoch in (0, 1, 6):
        with pytest.raises(StaleEpoch) as fenced:
            streams.append(producer=("p", epoch, 0))
        assert dict(fenced.value.headers) == {"Producer-Epoch": "7"}
    with pytest.raises(ProducerSeqGap):
        streams.append(producer=("p", 7, 3))
    with pytest.raises(BadRequest):
        streams.append(producer=("p", 8, 2))
    assert streams.read() == b"abcde"


def test_a_duplicate_is_told_the_highest_sequence(streams: Streams) -> None:
    streams.create()
    for seq in range(4):
        streams.append(producer=("p", 0, seq))
    outcome = streams.append(producer=("p", 0, 1))
    assert outcome.producer is not None
    assert (outcome.producer.epoch, outcome.producer.seq, outcome.tail) == (0, 3, 4)


def test_producers_do_not_know_each_other(streams: Streams) -> None:
    streams.create()
    streams.create("t")
    for name, producer in (("s", "p"), ("s", "q"), ("t", "p"), ("s", "\xfc \N{NO-BREAK SPACE}")):
        assert accepted(streams.append(name, producer.encode(), producer=(producer, 0, 0)))
    assert not accepted(streams.append("t", producer=("p", 0, 0)))
    assert len(streams.find().producers) == 3


def test_a_retry_after_a_restart_is_still_a_duplicate(lasting: Streams) -> None:
    lasting.create()
    lasting.append(body=b"once", producer=("p", 4, 0))
    lasting.reopen()
    assert not accepted(lasting.append(body=b"once", producer=("p", 4, 0)))
    with pytest.raises(StaleEpoch):
        lasting.append(producer=("p", 3, 0))
    assert accepted(lasting.append(body=b"!", producer=("p", 4, 1)))
    assert lasting.read() == b"once!"


def test_of_one_request_sent_many_times_at_once_one_is_accepted(streams: Streams) -> None:
    streams.create()
    request = append_request(body=b"once", producer=("p", 0, 0))
    outcomes = all_at_once(*[partial(streams.store.append, request)] * 25)
    assert sum(isinstance(outcome, Appended) and accepted(outcome) for outcome in outcomes) == 1
    assert all(isinstance(outcome, Appended) for outcome in outcomes)
    assert streams.read() == b"once"


def test_pipelined_batches_are_accepted_in_order_and_others_wait_for_their_turn(streams: Streams) -> None:
    """The rule of the client: a gap is sent again until those before it have arrived."""
    streams.create()
    left = [append_request(body=b"%d," % seq, producer=("p", 0, seq)) for seq in range(12)]
    left.reverse()
    rounds = 0
    while left:
        outcomes = all_at_once(*[partial(streams.store.append, request) for request in left])
        gaps = [
            request
            for request, outcome in zip(left, outcomes, strict=True)
            if not isinstance(outcome, Appended)
        ]
        assert all(isinstance(outcome, Appended | ProducerSeqGap) for outcome in outcomes)
        assert len(gaps) < len(left)
        left, rounds = gaps, rounds + 1
    assert rounds > 1
    assert streams.read() == b"".join(b"%d," % seq for seq in range(12))


def test_two_sessions_that_race_are_fenced_one_after_the_other(streams: Streams) -> None:
    streams.create()
    calls = [
        partial(streams.store.append, append_request(body=b"%d;" % epoch, producer=("p", epoch, 0)))
        for epoch in (3, 1, 4, 2, 5)
    ]
    outcomes = all_at_once(*calls)
    # Greenlets run in the order in which they were spawned, and so their requests are decided.
    assert [isinstance(outcome, Appended) for outcome in outcomes] == [True, False, True, False, True]
    assert streams.read() == b"3;4;5;"


@pytest.mark.parametrize("body", [b"", b"last"])
def test_a_closure_is_repeated_by_its_producer_alone(streams: Streams, body: bytes) -> None:
    streams.create(body=b"first ")
    streams.append(body=b"second ", producer=("p", 0, 0))
    closing = {"body": body, "close": True, "producer": ("p", 0, 1)}
    assert accepted(streams.append(**closing))
    for _ in range(2):
        outcome = streams.append(**closing)
        assert not accepted(outcome)
        assert outcome.closed
    before = streams.contents()
    for producer in (("p", 0, 0), ("p", 0, 2), ("p", 1, 0), ("q", 0, 0), ("q", 0, 1)):
        with pytest.raises(StreamClosed):
            streams.append(close=True, producer=producer)
    assert streams.contents() == before
    assert streams.read() == b"first second " + body


def test_many_producers_of_one_stream_are_all_remembered(streams: Streams) -> None:
    streams.create()
    names = [f"producer {number}" for number in range(300)]
    requests = [append_request(body=b".", producer=(name, 0, 0)) for name in names]
    for _ in range(2):
        all_at_once(*[partial(streams.store.append, request) for request in requests])
        assert set(streams.find().producers) == set(names)
        assert streams.find().tail == len(names)


@pytest.mark.parametrize("count", [3, 40, 300])
def test_producers_survive_a_restart_whether_few_or_many(lasting: Streams, count: int) -> None:
    """First all in one batch, then one by one; each restart finds every epoch, sequence and time."""
    lasting.create()
    requests = [append_request(producer=(f"p{number}", number, 0)) for number in range(count)]
    all_at_once(*[partial(lasting.store.append, request) for request in requests])
    expected = {f"p{number}": (number, 0, int(START)) for number in range(count)}
    assert remembered(lasting) == expected
    lasting.reopen()
    assert remembered(lasting) == expected
    for number in range(count - 1, 0, -max(1, count // 20)):
        lasting.clock.now += 1
        lasting.append(producer=(f"p{number}", number, 1))
        expected[f"p{number}"] = (number, 1, int(lasting.clock.now))
    lasting.reopen()
    assert remembered(lasting) == expected


def remembered(streams: Streams) -> dict[str, tuple[int, int, int]]:
    producers = streams.find().producers
    return {id: (known.epoch, known.seq, known.seen_at) for id, known in producers.items()}


@pytest.mark.parametrize("count", [pytest.param(5, marks=pytest.mark.long), 300])
def test_producers_that_are_silent_for_too_long_are_forgotten(open_streams: OpenStreams, count: int) -> None:
    """At once by the rules, and by and by in the storage, also over a restart."""
    streams = open_streams(of_stream=StreamLimits(producer_ttl_s=60))
    streams.create()
    for number in range(count):
        streams.append(producer=(f"p{number}", 0, 0))
    streams.clock.now += 61
    streams.append(producer=("p0", 0, 0), body=b"begun again")
    with pytest.raises(ProducerSeqGap):
        streams.append(producer=("p1", 0, 1))
    requests = [append_request(producer=("p0", 0, seq)) for seq in range(1, 16**3)]
    for first in range(0, len(requests), 200):
        all_at_once(*[partial(streams.store.append, each) for each in requests[first : first + 200]])
    assert set(streams.find().producers) == {"p0"}
    if streams.is_durable:
        streams.reopen()
        assert set(streams.find().producers) == {"p0"}
