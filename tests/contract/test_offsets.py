"""Lives and the offsets made of them, over every storage: the same text before and after a restart (section 8)."""

from __future__ import annotations

import pytest

from durable_streams.protocol.errors import InvalidOffset, OffsetGone
from tests.contract.driving import Streams


def test_the_offsets_of_a_stream_survive_a_restart_byte_for_byte(lasting: Streams) -> None:
    # A microsecond that no float of seconds gives back when it is multiplied.
    lasting.clock.now = 1764289999.123457
    lasting.create(body=b"abc")
    lasting.fork("fork", body=b"def")
    lasting.fork("empty", "fork", position=2)
    before = {
        name: [lasting.store.offset_at(lasting.find(name), position) for position in range(stop + 1)]
        for name, stop in (("s", 3), ("fork", 6), ("empty", 2))
    }
    assert before["s"][0] == "1764289999123457_0000000000000000"
    for _ in range(3):
        lasting.reopen()
        for name, offsets in before.items():
            state = lasting.find(name)
            assert [lasting.store.offset_at(state, position) for position in range(len(offsets))] == offsets
            assert state.next_offset == offsets[-1]


def test_every_offset_leads_back_to_its_position(streams: Streams) -> None:
    streams.create(body=b"abcdef")
    streams.fork("one", body=b"111")
    streams.fork("two", "one", b"222", position=2)
    streams.fork("three", "two", b"333", position=4)
    streams.remove("one")
    for name in ("s", "two", "three"):
        state = streams.find(name)
        texts = [streams.store.offset_at(state, position) for position in range(state.tail + 1)]
        assert texts == sorted(set(texts))
        assert state.next_offset == texts[-1]
        for position in range(state.tail + 1):
            assert streams.store.position_of(state, streams.offset(name, position)) == position


def test_a_stream_that_takes_the_place_of_another_has_another_life(streams: Streams) -> None:
    kept = []
    for _ in range(3):
        streams.create(body=b"abc")
        kept.append(streams.offset("s", 3))
        streams.remove()
        streams.clock.now -= 10
    streams.create(body=b"abcdef")
    for offset in kept:
        # Over a restart, with the clock set back, it is not known any more that there was a stream of a later life.
        with pytest.raises((OffsetGone, InvalidOffset)):
            streams.store.position_of(streams.find(), offset)
