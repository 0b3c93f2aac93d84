"""Offsets in messages: each is the end of its append, in every storage and through batches, forks and repeats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from durable_streams.protocol.errors import BadRequest, EmptyArray, StreamExists, TooLarge
from durable_streams.protocol.offsets import parse_offset
from durable_streams.protocol.outcomes import Appended, Created
from durable_streams.streams.splitting import PIECE_BYTES, Splitter
from tests.contract.conftest import OpenStreams
from tests.contract.driving import Streams, all_at_once, append_request

JSON = "application/json"
CHANGE = b'{"key":1,"headers":{"operation":"insert"}}'
RESET = b'{"headers":{"control":"reset","offset":"0_0"}}'


def create(streams: Streams, body: bytes = b"", name: str = "s", **more: Any) -> Created:
    return streams.create(name, body, JSON, **{"message_offsets": True, **more})


def append(streams: Streams, body: bytes = CHANGE, name: str = "s", **more: Any) -> Appended:
    return streams.append(name, body, content_type=JSON, **more)


def messages(streams: Streams, name: str = "s") -> list[Any]:
    return [json.loads(line) for line in streams.read(name).splitlines()]


def offsets(streams: Streams, name: str = "s") -> list[str]:
    return [message["headers"]["offset"] for message in messages(streams, name)]


def test_each_message_has_the_offset_that_its_append_was_answered(streams: Streams) -> None:
    ends = [create(streams, CHANGE).state.next_offset]
    ends += [append(streams).state.next_offset for _ in range(3)]
    both = append(streams, b"[%b,%b]" % (CHANGE, CHANGE)).state.next_offset
    assert offsets(streams) == [*ends, both, both]
    assert len(set(ends)) == 4


def test_reading_from_an_offset_in_a_message_gives_what_follows_its_append(streams: Streams) -> None:
    create(streams)
    for number in range(3):
        append(streams, b'{"number":%d,"headers":{"operation":"insert"}}' % number)
    state = streams.find()
    for number, text in enumerate(offsets(streams)):
        position = streams.store.position_of(state, parse_offset(text))
        rest = [json.loads(line)["number"] for line in streams.read("s", position).splitlines()]
        assert rest == list(range(number + 1, 3))


def test_what_is_no_change_or_has_an_offset_is_as_it_was_sent(streams: Streams) -> None:
    create(streams)
    append(streams, b'[1, {"headers":{"txid":"a"}}, %b]' % RESET)
    assert streams.read() == b'1\n{"headers":{"txid":"a"}}\n' + RESET + b"\n"


def test_without_being_asked_for_there_are_none(streams: Streams) -> None:
    for asked in (None, False):
        create(streams, CHANGE, f"{asked}", message_offsets=asked)
        append(streams, name=f"{asked}")
        assert streams.read(f"{asked}") == (CHANGE + b"\n") * 2


def test_appends_of_one_batch_have_an_offset_each(streams: Streams) -> None:
    create(streams)
    outcomes = all_at_once(*(lambda: append_now(streams) for _ in range(8)))
    ends = [outcome.state.next_offset for outcome in outcomes if isinstance(outcome, Appended)]
    assert sorted(ends) == offsets(streams)
    assert len(set(ends)) == 8


def append_now(streams: Streams) -> Appended:
    """Without the reopening that other tests want after each."""
    return streams.store.append(append_request("s", CHANGE, content_type=JSON))


def test_a_repeated_append_of_a_producer_stores_nothing(streams: Streams) -> None:
    create(streams)
    first = append(streams, producer=("p", 0, 0))
    again = append(streams, producer=("p", 0, 0))
    assert again.duplicate
    assert offsets(streams) == [first.state.next_offset] == [again.state.next_offset]


def test_a_closing_append_has_its_offset_too(streams: Streams) -> None:
    create(streams)
    end = append(streams, close=True).state.next_offset
    assert offsets(streams) == [end]
    create(streams, CHANGE, "closed", closed=True)
    assert offsets(streams, "closed") == [streams.find("closed").next_offset]


def test_a_fork_keeps_the_offsets_of_its_source_and_goes_on_with_its_own(streams: Streams) -> None:
    create(streams)
    ends = [append(streams).state.next_offset for _ in range(2)]
    forked = streams.fork("fork", body=CHANGE)
    assert forked.state.config.message_offsets
    own = [forked.state.next_offset, append(streams, name="fork").state.next_offset]
    assert offsets(streams, "fork") == ends + own
    assert offsets(streams) == ends


@pytest.mark.parametrize("content_type", [None, JSON])
@pytest.mark.parametrize("source_has", [False, True])
@pytest.mark.parametrize("asked", [None, False, True])
def test_a_fork_does_as_its_source_unless_it_asks(
    streams: Streams, content_type: str | None, source_has: bool, asked: bool | None
) -> None:
    create(streams, CHANGE, message_offsets=source_has)
    streams.create("fork", CHANGE, content_type, source="s", message_offsets=asked)
    append(streams, name="fork")
    own = source_has if asked is None else asked
    has = ["offset" in message["headers"] for message in messages(streams, "fork")]
    assert has == [source_has, own, own]


def test_a_stream_that_is_there_has_to_be_the_same_if_it_is_said_which(streams: Streams) -> None:
    for has in (False, True):
        name = f"{has}"
        create(streams, name=name, message_offsets=has)
        assert create(streams, name=name, message_offsets=has).existed
        assert create(streams, name=name, message_offsets=None).existed
        with pytest.raises(StreamExists, match="offsets"):
            create(streams, name=name, message_offsets=not has)


def test_another_content_type_has_no_offsets(streams: Streams) -> None:
    with pytest.raises(BadRequest, match="application/json"):
        streams.create(message_offsets=True)
    assert "s" not in streams.contents()
    assert not streams.create(message_offsets=False).existed
    with pytest.raises(BadRequest, match="application/json"):
        streams.fork("fork", message_offsets=True)


def test_an_empty_array_is_no_append_here_either(streams: Streams) -> None:
    assert create(streams, b"[]").state.tail == 0
    with pytest.raises(EmptyArray):
        append(streams, b"[]")


def test_a_long_body_of_many_messages_has_one_offset(open_streams: OpenStreams) -> None:
    streams = open_streams()
    create(streams)
    count = 3 * PIECE_BYTES // len(CHANGE)
    end = append(streams, b"[" + b",".join([CHANGE] * count) + b"]").state.next_offset
    assert offsets(streams) == [end] * count


def test_the_offsets_count_for_the_limit_of_a_stream(open_streams: OpenStreams) -> None:
    streams = open_streams(stream_bytes_max=len(CHANGE) + 1 + 45)
    create(streams, CHANGE)
    with pytest.raises(TooLarge):
        create(streams, b"[%b,1]" % CHANGE, "longer")


@pytest.mark.parametrize("then", [False, True])
def test_a_stream_that_is_replaced_while_its_append_is_split_is_met_as_it_is(
    open_streams: OpenStreams, monkeypatch: Any, then: bool
) -> None:
    streams = open_streams()
    create(streams, message_offsets=not then)
    split = Splitter.split_append

    def split_and_replace(splitter: Splitter, *args: Any) -> None:
        split(splitter, *args)
        if streams.find().config.message_offsets != then:
            streams.remove()
            create(streams, message_offsets=then)

    monkeypatch.setattr(Splitter, "split_append", split_and_replace)
    end = append(streams).state.next_offset
    assert [message["headers"].get("offset") for message in messages(streams)] == [end if then else None]
