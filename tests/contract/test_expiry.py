"""Expiry: windows that slide, deadlines that stand, readers that hold, and the sweeper (section 5.1)."""

from __future__ import annotations

import pytest

from durable_streams.protocol.errors import (
    ContentTypeMismatch,
    StreamExists,
    StreamNotFound,
    StreamSeqRegression,
)
from tests.contract.driving import START, Streams, create_request


def is_there(streams: Streams, now: float) -> bool:
    streams.clock.now = now
    try:
        streams.find()
    except StreamNotFound:
        return False
    return True


def touch(streams: Streams, now: float) -> None:
    """What every read does."""
    streams.clock.now = now
    streams.store.touch(streams.find())


def test_a_stream_that_nobody_uses_goes_after_its_window(streams: Streams) -> None:
    streams.create(body=b"abc", ttl=10)
    assert is_there(streams, START + 9.9)
    assert not is_there(streams, START + streams.window(10))
    with pytest.raises(StreamNotFound):
        streams.append()
    with pytest.raises(StreamNotFound):
        streams.remove()


def test_a_window_of_nothing_has_passed_at_once(streams: Streams) -> None:
    streams.create(ttl=0)
    assert not is_there(streams, START)


def test_a_deadline_is_not_moved_by_anything(streams: Streams) -> None:
    streams.create(expires_at=START + 10)
    streams.clock.now += 5
    streams.append()
    touch(streams, START + 9)
    assert is_there(streams, START + 9.9)
    assert not is_there(streams, START + 10)


def test_a_deadline_that_has_passed_makes_a_stream_that_has_gone(streams: Streams) -> None:
    streams.create(expires_at=START - 1)
    assert not is_there(streams, START)
    streams.create(expires_at=START + 5)
    assert is_there(streams, START)


def test_writes_renew_the_window(streams: Streams) -> None:
    streams.create(ttl=10)
    for _ in range(4):
        streams.clock.now += 9
        streams.append()
    streams.clock.now += 9
    streams.close_stream()
    assert is_there(streams, streams.clock.now + 9.9)
    assert not is_there(streams, streams.clock.now - 9.9 + streams.window(10))


def test_writes_that_are_repeated_renew_the_window_too(streams: Streams) -> None:
    streams.create(ttl=10)
    last = {"body": b"x", "close": True, "producer": ("p", 0, 0)}
    streams.append(**last)
    for _ in range(3):
        streams.clock.now += 9
        assert streams.append(**last).duplicate
    assert is_there(streams, streams.clock.now + 9.9)
    assert not is_there(streams, streams.clock.now - 9.9 + streams.window(10))


def test_reads_renew_the_window(streams: Streams) -> None:
    streams.create(ttl=10)
    now = START
    for step in (9, 1, 0.5, 9.9, 9):
        now += step
        touch(streams, now)
    assert is_there(streams, now + 9.9)
    assert not is_there(streams, now + streams.window(10))


def test_looking_renews_nothing(streams: Streams) -> None:
    streams.create(ttl=10)
    for now in (1, 5, 9, 9.9):
        assert is_there(streams, START + now)
    assert not is_there(streams, START + streams.window(10))


def test_refused_requests_renew_nothing(streams: Streams) -> None:
    streams.create(ttl=10)
    streams.append(seq="m")
    streams.clock.now += 9
    with pytest.raises(ContentTypeMismatch):
        streams.append(content_type="text/html")
    with pytest.raises(StreamSeqRegression):
        streams.append(seq="a")
    with pytest.raises(StreamExists):
        streams.create(ttl=20)
    assert not is_there(streams, START + streams.window(10))


def test_being_asked_for_again_renews_nothing(streams: Streams) -> None:
    streams.create(ttl=10)
    streams.clock.now += 9
    assert streams.create(ttl=10).existed
    assert not is_there(streams, START + streams.window(10))


def test_an_expired_stream_makes_room_for_a_new_one(streams: Streams) -> None:
    old = streams.create(body=b"old", ttl=10).state
    streams.clock.now += streams.window(10)
    new = streams.create(body=b"new", content_type="text/html")
    assert not new.existed
    assert new.state.config.uid != old.config.uid
    assert streams.read() == b"new"
    assert is_there(streams, START + 1000)


# -- live readers ---------------------------------------------------------------------------------------------------


def test_a_stream_does_not_expire_while_a_live_reader_is_attached(streams: Streams) -> None:
    state = streams.create(ttl=10).state
    streams.store.attach(state)
    assert is_there(streams, START + 1000)
    streams.store.sweep()
    assert is_there(streams, START + 2000)
    streams.store.detach(state)
    assert is_there(streams, START + 2009.9)
    assert not is_there(streams, START + 2000 + streams.window(10))


def test_the_last_of_several_live_readers_lets_the_window_run(streams: Streams) -> None:
    state = streams.create(ttl=10).state
    streams.store.attach(state)
    streams.store.attach(state)
    streams.clock.now += 100
    streams.store.detach(state)
    assert is_there(streams, START + 200)
    streams.store.detach(state)
    assert not is_there(streams, START + 200 + streams.window(10))


def test_a_live_reader_does_not_hold_back_a_deadline(streams: Streams) -> None:
    state = streams.create(expires_at=START + 10).state
    streams.store.attach(state)
    assert not is_there(streams, START + 10)
    streams.store.detach(state)


def test_nothing_is_remembered_of_streams_that_have_gone(streams: Streams) -> None:
    """Also not when a reader leaves, or reads, after the end of its stream."""
    for number in range(3):
        state = streams.create(ttl=10).state
        streams.store.attach(state)
        touch(streams, START + number)
        streams.store.remove("s")
        streams.store.touch(state)
        streams.store.detach(state)
    assert not streams.store._lifetimes._touches.names()


def test_a_reader_of_an_older_stream_does_not_hold_the_newer_one_for_ever(streams: Streams) -> None:
    old = streams.create(ttl=10).state
    streams.store.attach(old)
    streams.store.remove("s")
    streams.store.create(create_request(ttl=10))
    streams.clock.now += 9
    streams.store.detach(old)
    streams.clock.now += 1
    assert not is_there(streams, streams.clock.now + 10)


# -- the sweeper ----------------------------------------------------------------------------------------------------


def test_the_sweeper_removes_what_has_expired_and_nothing_else(streams: Streams) -> None:
    streams.create("window", b"x", ttl=10)
    streams.create("deadline", b"x", expires_at=START + 10)
    streams.create("longer", ttl=12)
    streams.create("for ever")
    streams.clock.now = START + streams.window(10)
    assert streams.sweep() == 2
    assert sorted(streams.contents()) == ["for ever", "longer"]
    assert streams.sweep() == 0


def test_the_sweeper_records_what_reads_have_touched(streams: Streams) -> None:
    """Of a storage that is shared the stream is not due before others could not have touched it."""
    streams.create(ttl=10)
    touch(streams, START + 1)
    streams.clock.now = START + 10
    assert streams.sweep() == (0 if streams.storage.shared else 1)
    assert streams.sweep() == 0
    assert streams.find().touched_at >= START + 1
    streams.clock.now = START + 2 + streams.window(10)
    streams.sweep()
    assert streams.contents() == {}


def test_the_sweeper_works_in_pieces(streams: Streams) -> None:
    for number in range(25):
        streams.create(f"s{number}", ttl=10 + number)
    streams.clock.now += streams.window(19)
    assert [streams.store.sweep(4) for _ in range(4)] == [4, 4, 2, 0]
    assert len(streams.contents()) == 15


def test_a_stream_is_due_in_its_own_time_after_a_restart(lasting: Streams) -> None:
    lasting.create("a", ttl=10)
    lasting.create("b", ttl=100)
    lasting.create("c")
    lasting.clock.now += 5
    lasting.store.touch(lasting.find("a"))
    lasting.reopen()
    lasting.clock.now = START + 10
    lasting.sweep()
    assert lasting.find("a").touched_at == START + 5
    lasting.clock.now = START + 5 + lasting.window(10)
    assert lasting.storage.due(lasting.clock.now, 10) == ["a"]
    lasting.sweep()
    assert sorted(lasting.contents()) == ["b", "c"]


def test_asking_what_is_due_changes_nothing(streams: Streams) -> None:
    for name, ttl in (("a", 10), ("b", 20), ("c", 30)):
        streams.create(name, ttl=ttl)
    for _ in range(3):
        assert streams.storage.due(START + 9, 10) == []
        assert streams.storage.due(START + streams.window(20), 10) == ["a", "b"]
        assert streams.storage.due(START + 100, 2) == ["a", "b"]
    streams.clock.now += 5
    streams.append("a")
    assert streams.storage.due(START + 14, 10) == []
    assert sorted(streams.storage.due(START + streams.window(20), 10)) == ["a", "b"]


def test_a_name_that_is_used_again_is_due_by_its_new_stream(streams: Streams) -> None:
    streams.create(ttl=10)
    streams.remove()
    streams.create(ttl=50)
    assert streams.storage.due(START + 49, 10) == []
    streams.remove()
    streams.create(ttl=5)
    assert streams.storage.due(START + streams.window(5), 10) == ["s"]
    streams.remove()
    streams.create()
    assert streams.storage.due(START + 1e9, 10) == []
