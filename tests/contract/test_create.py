"""Creating streams, finding them again, and being asked for one that is there (section 5.1)."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from durable_streams.protocol.errors import InvalidJson, StreamExists, StreamNotFound
from tests.contract.driving import Streams, all_at_once, create_request


def test_a_new_stream_is_found_with_its_first_bytes(streams: Streams) -> None:
    created = streams.create("a/b", b"first", "Text/Plain; charset=utf-8")
    assert not created.existed
    state = streams.find("a/b")
    assert (state.tail, state.closed) == (5, False)
    assert state.config.content_type == "Text/Plain; charset=utf-8"
    assert state.config.life == streams.clock.now * 1_000_000
    assert streams.read("a/b") == b"first"


def test_an_empty_stream_is_there_and_empty(streams: Streams) -> None:
    streams.create()
    assert streams.find().tail == 0
    assert streams.read() == b""


def test_nothing_is_found_where_nothing_was_created(streams: Streams) -> None:
    streams.create("a")
    for name in ("b", "a/", "A", "a/a"):
        with pytest.raises(StreamNotFound):
            streams.find(name)


def test_asked_again_it_is_the_same_stream_and_the_body_is_not_appended(streams: Streams) -> None:
    first = streams.create(body=b"once")
    streams.append(body=b"more")
    again = streams.create(body=b"once")
    assert again.existed
    assert again.state.config.uid == first.state.config.uid
    assert streams.read() == b"oncemore"


@pytest.mark.parametrize(
    "difference",
    [
        {"content_type": "text/html"},
        {"closed": True},
        {"ttl": 60},
        {"expires_at": 2e9},
        {"source": "s"},
        {"source": "other"},
    ],
)
def test_asked_for_something_else_it_is_a_conflict_and_nothing_changes(
    streams: Streams, difference: dict[str, Any]
) -> None:
    streams.create("other")
    streams.create(body=b"abc")
    before = streams.contents()
    with pytest.raises(StreamExists):
        streams.create(**{"content_type": "text/plain", **difference})
    assert streams.contents() == before


@pytest.mark.parametrize("body", [b"", b"everything"])
def test_a_stream_can_be_born_closed(streams: Streams, body: bytes) -> None:
    streams.create(body=body, closed=True)
    assert streams.find().closed
    assert streams.read() == body
    assert streams.create(closed=True).existed
    with pytest.raises(StreamExists):
        streams.create()


def test_a_body_that_is_refused_leaves_no_stream_behind(streams: Streams) -> None:
    with pytest.raises(InvalidJson):
        streams.create(body=b'{"half":', content_type="application/json")
    assert streams.contents() == {}
    with pytest.raises(StreamNotFound):
        streams.find()


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a/b/c/d/e/f/g/h",
        "\N{EURO SIGN}/\N{GRINNING FACE}",
        "with space and %2F and ?#",
        "line\nbreak",
        "x" * 1024,
        "\N{EURO SIGN}" * 341,
        "..foo",
        "CON",
        "e\N{COMBINING ACUTE ACCENT}",
    ],
    ids=lambda name: ascii(name)[:20],
)
def test_every_name_is_kept_as_it_is(streams: Streams, name: str) -> None:
    streams.create(name, name.encode())
    assert streams.find(name).name == name
    assert streams.read(name) == name.encode()
    assert streams.storage.names("", "", 10) == [name]


def test_names_that_look_alike_are_different_streams(streams: Streams) -> None:
    names = [
        "s",
        "S",
        "s.",
        "s/t",
        "s%2Ft",
        "\N{LATIN SMALL LETTER E WITH ACUTE}",
        "e\N{COMBINING ACUTE ACCENT}",
    ]
    for name in names:
        streams.create(name, name.encode())
    assert {name: streams.read(name).decode() for name in names} == {name: name for name in names}


def test_names_are_listed_in_order_by_prefix_and_in_pieces(streams: Streams) -> None:
    for name in ("b", "a/2", "a/1", "a", "c", "a/10", "ab"):
        streams.create(name)
    storage = streams.storage
    assert storage.names("", "", 100) == ["a", "a/1", "a/10", "a/2", "ab", "b", "c"]
    assert storage.names("a/", "", 100) == ["a/1", "a/10", "a/2"]
    assert storage.names("a", "", 2) == ["a", "a/1"]
    assert storage.names("a", "a/1", 2) == ["a/10", "a/2"]
    assert storage.names("", "a/15", 2) == ["a/2", "ab"]
    assert storage.names("a", "b", 5) == []
    assert storage.names("x", "", 5) == []


def test_of_many_who_create_one_stream_at_once_one_does(streams: Streams) -> None:
    created = all_at_once(*[partial(streams.store.create, create_request(body=b"body"))] * 20)
    outcomes = [getattr(outcome, "existed", None) for outcome in created]
    assert outcomes.count(False) == 1
    assert outcomes.count(True) == 19
    assert streams.read() == b"body"


def test_everything_about_a_stream_survives_a_restart(lasting: Streams) -> None:
    lasting.create("plain", b"bytes", "Text/Plain; charset=utf-8", ttl=60)
    lasting.create("until", expires_at=lasting.clock.now + 60)
    lasting.create("done", b"end", closed=True)
    lasting.create("json", b'[{"a": 1.0}, 2]', "application/json")
    lasting.append("plain", b"more", seq="a", producer=("p", 3, 0))
    lasting.append("until", b"last", close=True, producer=("p", 0, 0))
    lasting.fork("fork", "plain", b"own", position=5)
    before = lasting.contents()
    for _ in range(3):
        lasting.reopen()
        assert lasting.contents() == before
    assert lasting.read("fork") == b"bytesown"
