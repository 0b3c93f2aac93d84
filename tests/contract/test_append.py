"""Appending: every byte, in order, once; and a refused request leaves no trace (section 5.2)."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest

from durable_streams.protocol.errors import (
    ContentTypeMismatch,
    EmptyArray,
    EmptyBody,
    InvalidJson,
    ProducerSeqGap,
    ProtocolError,
    StaleEpoch,
    StreamClosed,
    StreamNotFound,
    StreamSeqRegression,
)
from durable_streams.protocol.outcomes import Appended
from tests.contract.driving import Streams, all_at_once, append_request


def test_bytes_come_back_in_the_order_in_which_they_were_appended(streams: Streams) -> None:
    streams.create(body=b"0")
    for number in range(1, 40):
        outcome = streams.append(body=b",%d" % number)
        assert outcome.tail == streams.find().tail
    assert streams.read() == ",".join(map(str, range(40))).encode()


SIZES = [1, 100, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_000, 3, 1_500_000, 7]


def test_appends_of_every_size_are_kept_byte_for_byte(streams: Streams) -> None:
    chosen = random.Random(1)
    bodies = [chosen.randbytes(size) for size in SIZES]
    streams.create(content_type="application/octet-stream")
    for body in bodies:
        streams.append(body=body, content_type="application/octet-stream")
    everything = b"".join(bodies)
    assert streams.read() == everything
    for start in (0, 1, 99, 4096, 70_000, len(everything) - 8, len(everything)):
        assert streams.read(start=start) == everything[start:]


def test_json_messages_are_kept_as_lines(streams: Streams) -> None:
    streams.create(body=b"[]", content_type="application/json")
    streams.append(body=b'{"a": 1.0}', content_type="application/json")
    streams.append(body=b"[1e400, [2]]", content_type="Application/JSON; charset=utf-8")
    assert streams.read() == b'{"a":1.0}\n1e400\n[2]\n'


def test_streams_do_not_touch_each_other(streams: Streams) -> None:
    names = [f"s{number}" for number in range(5)]
    for name in names:
        streams.create(name)
    for round_ in range(4):
        for name in names:
            streams.append(name, f"{name}.{round_} ".encode())
    for name in names:
        assert streams.read(name).decode() == "".join(f"{name}.{round_} " for round_ in range(4))


def test_stream_seq_must_grow_also_over_a_restart(streams: Streams) -> None:
    streams.create()
    streams.append(seq="a")
    streams.append(seq="b")
    streams.append()
    for seq in ("b", "a", "B", ""):
        with pytest.raises(StreamSeqRegression):
            streams.append(seq=seq)
    streams.append(seq="b0")
    assert streams.find().stream_seq == "b0"


REFUSALS: list[tuple[dict[str, Any], type[ProtocolError]]] = [
    ({"name": "nobody"}, StreamNotFound),
    ({"body": b""}, EmptyBody),
    ({"content_type": "text/html"}, ContentTypeMismatch),
    ({"seq": "m"}, StreamSeqRegression),
    ({"producer": ("p", 1, 0)}, StaleEpoch),
    ({"producer": ("p", 2, 9)}, ProducerSeqGap),
    ({"producer": ("new", 0, 1), "seq": "z"}, ProducerSeqGap),
    ({"producer": ("p", 2, 5), "seq": "a"}, StreamSeqRegression),
    ({"producer": ("p", 2, 9), "close": True}, ProducerSeqGap),
    ({"name": "closed"}, StreamClosed),
    ({"name": "closed", "close": True}, StreamClosed),
    ({"name": "json", "content_type": "application/json", "body": b"[1"}, InvalidJson),
    ({"name": "json", "content_type": "application/json", "body": b"[]", "close": True}, EmptyArray),
    (
        {"name": "json", "content_type": "application/json", "body": b"NaN", "producer": ("p", 0, 0)},
        InvalidJson,
    ),
]


@pytest.fixture
def refusing(streams: Streams) -> Streams:
    """Streams whose state gives every reason to refuse something."""
    streams.create(body=b"abc", ttl=100)
    streams.append(seq="m", producer=("p", 2, 0))
    for number in range(1, 5):
        streams.append(producer=("p", 2, number))
    streams.create("closed", b"end", closed=True)
    streams.create("json", content_type="application/json")
    return streams


@pytest.mark.parametrize(
    ("request_", "error"),
    REFUSALS,
    ids=[f"{error.__name__}-{number}" for number, (_, error) in enumerate(REFUSALS)],
)
def test_a_refused_append_changes_nothing(
    refusing: Streams, request_: dict[str, Any], error: type[ProtocolError]
) -> None:
    before = refusing.contents()
    announced = len(refusing.announced)
    refusing.clock.now += 10
    with pytest.raises(error):
        refusing.append(**request_)
    assert refusing.contents() == before
    assert len(refusing.announced) == announced
    refusing.append(body=b"next", producer=("p", 2, 5), seq="n")


def test_refused_ones_do_not_disturb_those_beside_them(refusing: Streams) -> None:
    """All are waiting at once, so that storages with a committer decide them in one batch."""
    expected = refusing.read()
    calls = []
    for number, (request_, _) in enumerate(REFUSALS):
        calls.append(partial(refusing.store.append, append_request(**request_)))
        calls.append(partial(refusing.store.append, append_request(body=b"%d " % number)))
        expected += b"%d " % number
    outcomes = all_at_once(*calls)
    assert [type(outcome) for outcome in outcomes[::2]] == [error for _, error in REFUSALS]
    assert all(isinstance(outcome, Appended) for outcome in outcomes[1::2])
    assert refusing.read() == expected


WRITERS, APPENDS = 20, 15


def test_racing_writers_lose_nothing_and_keep_their_own_order(streams: Streams) -> None:
    streams.create()
    tails: list[int] = []

    def write(writer: int) -> None:
        for number in range(APPENDS):
            outcome = streams.store.append(append_request(body=b"%d.%d\n" % (writer, number)))
            tails.append(outcome.tail)

    all_at_once(*[partial(write, writer) for writer in range(WRITERS)])
    lines = streams.read().decode().splitlines()
    assert len(lines) == WRITERS * APPENDS
    for writer in range(WRITERS):
        own = [line for line in lines if line.startswith(f"{writer}.")]
        assert own == [f"{writer}.{number}" for number in range(APPENDS)]
    assert len(set(tails)) == len(tails)
    assert max(tails) == streams.find().tail


def test_an_answered_append_is_seen_by_its_writer_at_once(streams: Streams) -> None:
    streams.create()

    def write_and_read(writer: int) -> bool:
        outcome = streams.store.append(append_request(body=b"[%d]" % writer))
        return b"[%d]" % writer in streams.read() and streams.find().tail >= outcome.tail

    assert all(all_at_once(*[partial(write_and_read, writer) for writer in range(30)]))


def test_every_change_is_announced_once_it_can_be_read(streams: Streams) -> None:
    streams.create()
    streams.append(body=b"abc")
    streams.close_stream()
    streams.remove()
    tails = [
        (change.after.tail, change.after.closed) if change.after else None for change in streams.announced
    ]
    assert tails == [(0, False), (3, False), (3, True), None]
    assert [change.name for change in streams.announced] == ["s"] * 4
