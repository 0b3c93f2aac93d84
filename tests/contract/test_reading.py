"""Reading: pages of bounded size, whole JSON messages, and positions that are none (sections 5.6 and 8)."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from durable_streams.protocol.errors import InvalidOffset, StreamNotFound
from durable_streams.protocol.messages.framing import to_array
from durable_streams.protocol.requests import Identity, Inherited
from tests.contract.driving import Streams, create_request

JSON = "application/json"
LETTERS = b"abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("page_bytes", [1, 2, 7, 25, 26, 27, 1000])
def test_a_page_holds_what_was_asked_for_and_says_whether_it_reaches_the_tail(
    streams: Streams, page_bytes: int
) -> None:
    streams.create(body=LETTERS)
    for start in (0, 1, 13, 25, 26):
        page = streams.store.read(streams.find(), start, page_bytes)
        assert page.data == LETTERS[start : start + page_bytes]
        assert (page.start, page.stop) == (start, start + len(page.data))
        assert page.at_tail is (start + page_bytes >= 26)


def test_at_the_tail_there_is_an_empty_page(streams: Streams) -> None:
    for name, content_type in (("s", "text/plain"), ("j", JSON)):
        streams.create(name, content_type=content_type)
        page = streams.store.read(streams.find(name), 0, 10)
        assert (page.data, page.at_tail) == (b"", True)
    assert to_array(b"") == b"[]"


@pytest.mark.parametrize("content_type", ["text/plain", JSON])
@pytest.mark.parametrize("beyond", [1, 2, 10**15])
def test_a_position_beyond_the_tail_is_refused(streams: Streams, content_type: str, beyond: int) -> None:
    streams.create(body=b"12", content_type=content_type)
    with pytest.raises(InvalidOffset, match="beyond the tail"):
        streams.store.read(streams.find(), streams.find().tail + beyond, 10)


MESSAGES = [b"1", b'"two"', b'{"three":[3,3,3]}', b"[[]]", b'"' + b"5" * 50 + b'"', b"6"]
STORED = b"".join(message + b"\n" for message in MESSAGES)
BOUNDARIES = [0] + [end + 1 for end, byte in enumerate(STORED) if byte == 0x0A]


@pytest.fixture
def json_streams(streams: Streams) -> Streams:
    """The messages, half of them in a fork's source."""
    streams.create("source", b"[" + b",".join(MESSAGES[:3]) + b', "not inherited"]', JSON)
    streams.fork("s", "source", b"[" + b",".join(MESSAGES[3:]) + b"]", position=BOUNDARIES[3])
    assert streams.read() == STORED
    return streams


@pytest.mark.parametrize("page_bytes", [1, 3, 4, 10, 33, 60, len(STORED) - 1, len(STORED), 1000])
def test_a_json_page_ends_between_messages_and_holds_one_at_least(
    json_streams: Streams, page_bytes: int
) -> None:
    stop = 0
    for page in json_streams.pages("s", 0, page_bytes):
        assert page.start == stop
        assert page.stop in BOUNDARIES
        messages = json.loads(to_array(page.data))
        assert messages
        assert len(page.data) <= page_bytes or len(messages) == 1
        stop = page.stop
    assert stop == len(STORED)
    assert json_streams.read("s", page_bytes=page_bytes) == STORED


def test_messages_that_an_earlier_version_stored_are_read_and_forked_like_others(streams: Streams) -> None:
    create = create_request("s", b"[]", JSON)
    old = replace(
        create, identity=Identity("old", 1), messages=b'{"a": 1},\n2,\n', inherited=Inherited(None, True)
    )
    streams.store._pipeline.submit(old)
    streams.append(body=b'[3, {"b": 4}]', content_type=JSON)
    streams.fork("f", position=10, sub_offset=1, body=b"[5]")
    for name, text in (("s", b'[{"a": 1},2,3,{"b":4}]'), ("f", b'[{"a": 1},2,5]')):
        assert streams.store.read(streams.find(name), 0, 1000).body == text
        assert b",".join(page.body[1:-1] for page in streams.pages(name, 0, 3)) == text[1:-1]
    assert streams.store.read(streams.find(), 10, 1000).body == b'[2,3,{"b":4}]'
    with pytest.raises(InvalidOffset, match="inside a JSON message"):
        streams.store.read(streams.find(), 9, 1000)


def test_a_position_inside_a_message_is_refused_wherever_it_is(json_streams: Streams) -> None:
    state = json_streams.find()
    for position in range(len(STORED) + 1):
        if position in BOUNDARIES:
            assert json_streams.store.read(state, position, 1000).data == STORED[position:]
        else:
            with pytest.raises(InvalidOffset, match="inside a JSON message"):
                json_streams.store.read(state, position, 1000)


def test_a_message_larger_than_pages_and_pieces_comes_whole(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_streams.streams.reading.SCAN_BYTES", 1000)
    large = b'"' + b"x" * 5_000 + b'"'
    streams.create(body=b"[1, " + large + b", 2]", content_type=JSON)
    pages = [page.data for page in streams.pages("s", 0, 10)]
    assert pages == [b"1\n", large + b"\n", b"2\n"]


def test_a_state_that_was_found_reads_the_same_whatever_happens_next(streams: Streams) -> None:
    streams.create(body=b"abc")
    state = streams.find()
    streams.append(body=b"def")
    streams.close_stream()
    page = streams.store.read(state, 0, 100)
    assert (page.data, page.at_tail, page.state.closed) == (b"abc", True, False)


def test_a_state_of_a_stream_that_has_gone_reads_nothing(streams: Streams) -> None:
    streams.create(body=b"abc")
    state = streams.find()
    streams.remove()
    with pytest.raises(StreamNotFound):
        streams.store.read(state, 0, 100)
    streams.create(body=b"xyz")
    with pytest.raises(StreamNotFound):
        streams.store.read(state, 0, 100)


def test_any_range_of_a_long_stream_is_what_was_written_there(streams: Streams) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    content = b""
    streams.create()
    for size in [chosen.choice((1, 50, 700, 9_000, 70_000)) for _ in range(25)]:
        body = chosen.randbytes(size)
        streams.append(body=body)
        content += body
    state = streams.find()
    for _ in range(60):
        start = chosen.randint(0, len(content))
        stop = chosen.randint(start, min(len(content), start + 100_000))
        assert streams.store.read(state, start, stop - start).data == content[start:stop]
