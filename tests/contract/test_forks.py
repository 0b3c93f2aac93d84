"""Forks: what they inherit, where they leave their source, and who keeps whom alive (section 4.2)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from durable_streams.protocol.errors import (
    BadRequest,
    ContentTypeMismatch,
    ForkFromDeleted,
    InvalidJson,
    InvalidOffset,
    PathBlocked,
    ProtocolError,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from durable_streams.protocol.outcomes import Created
from durable_streams.protocol.requests import AddFork, Identity, Remove, RemoveFork
from durable_streams.protocol.state import ORPHAN_AGE_S, RECHECK_DELETED_S, ForkPoint
from tests.contract.conftest import OpenStreams
from tests.contract.driving import Streams, all_at_once, create_request, without_revisions

NAMES = [f"fork/{number}" for number in range(6)]
"""Enough of them for storages with several shards to put some beside their source and some elsewhere."""


# -- what a fork reads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1, 3, 5, 6, None])
def test_a_fork_reads_its_source_up_to_where_it_left_it(streams: Streams, position: int | None) -> None:
    streams.create(body=b"abcdef")
    for name in NAMES:
        created = streams.fork(name, position=position, body=b"(own)")
        assert not created.existed
    streams.append(body=b"later")
    inherited = b"abcdef"[:position]
    for name in NAMES:
        streams.append(name, b"more")
        assert streams.read(name) == inherited + b"(own)more"
        assert streams.read(name, page_bytes=2) == inherited + b"(own)more"
        for start in range(len(inherited) + 9):
            assert streams.read(name, start) == (inherited + b"(own)more")[start:]
    assert streams.read() == b"abcdeflater"


def test_a_chain_of_forks_is_read_through(streams: Streams) -> None:
    streams.create("0", b"0000")
    for number in range(1, 6):
        own = str(number).encode() * 4
        streams.fork(str(number), str(number - 1), own, position=4 * number - 2)
    assert streams.read("5") == _chain(5)
    assert streams.read("5", page_bytes=3) == _chain(5)
    assert streams.read("0") == b"0000"


def _chain(length: int) -> bytes:
    content = b"0000"
    for number in range(1, length + 1):
        content = content[: 4 * number - 2] + str(number).encode() * 4
    return content


def test_a_fork_may_leave_inside_what_its_source_inherits(streams: Streams) -> None:
    streams.create(body=b"abcdef")
    streams.fork("one", body=b"111")
    streams.fork("two", "one", b"222", position=2)
    streams.fork("three", "two", b"333", position=1)
    assert streams.read("two") == b"ab222"
    assert streams.read("three") == b"a333"


@pytest.mark.parametrize(
    ("position", "sub_offset", "inherited"), [(0, 3, 3), (2, 0, 2), (2, 4, 6), (None, 0, 6)]
)
def test_bytes_are_counted_by_the_sub_offset(
    streams: Streams, position: int | None, sub_offset: int, inherited: int
) -> None:
    streams.create(body=b"abcdef")
    for name in NAMES[:2]:
        streams.fork(name, position=position, sub_offset=sub_offset)
        assert streams.read(name) == b"abcdef"[:inherited]


MESSAGES = [b"1\n", b'{"a":[2,3]}\n', b"[4]\n", b'"five"\n']
ENDS = [0, 2, 14, 18, 25]


@pytest.mark.parametrize("anchor", range(5))
def test_messages_are_counted_by_the_sub_offset_of_a_json_stream(streams: Streams, anchor: int) -> None:
    streams.create(body=b'[1, {"a": [2, 3]}, [4], "five"]', content_type="application/json")
    assert streams.read() == b"".join(MESSAGES)
    for count in range(5 - anchor):
        name = f"fork/{count}"
        streams.fork(name, position=ENDS[anchor], sub_offset=count, body=b"[6]")
        assert streams.read(name) == b"".join(MESSAGES[: anchor + count]) + b"6\n"
        assert streams.fork(name, position=ENDS[anchor], sub_offset=count).existed
    with pytest.raises(BadRequest, match="beyond"):
        streams.fork("too far", position=ENDS[anchor], sub_offset=5 - anchor)


def test_a_sub_offset_passes_more_messages_than_one_look_takes(streams: Streams, monkeypatch: Any) -> None:
    monkeypatch.setattr("durable_streams.streams.reading.SCAN_BYTES", 4)
    test_messages_are_counted_by_the_sub_offset_of_a_json_stream(streams, 0)


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ({"position": 7}, BadRequest),
        ({"position": 10**14}, BadRequest),
        ({"sub_offset": 1}, BadRequest),
        ({"position": 3, "sub_offset": 4}, BadRequest),
        ({"position": 0, "sub_offset": 2**53 - 1}, BadRequest),
        ({"content_type": "text/html"}, ContentTypeMismatch),
        ({"source": "nobody"}, StreamNotFound),
        ({"source": "fork"}, StreamNotFound),
        ({"source": "deleted"}, ForkFromDeleted),
        ({"source": "json", "position": 1}, InvalidOffset),
        ({"source": "json", "sub_offset": 2, "position": 0}, BadRequest),
        ({"source": "json", "body": b"[1"}, InvalidJson),
        ({"name": "there"}, StreamExists),
    ],
)
def test_a_refused_fork_leaves_nothing_behind(
    streams: Streams, where: dict[str, Any], error: type[ProtocolError]
) -> None:
    streams.create(body=b"abcdef", ttl=60)
    streams.create("json", b"[12]", "application/json")
    streams.create("there")
    streams.create("deleted", b"x")
    streams.fork("holds", "deleted")
    streams.remove("deleted")
    before = without_revisions(streams.contents())
    streams.clock.now += 1
    with pytest.raises(error):
        streams.create(**{"name": "fork", "content_type": None, "source": "s", **where})
    assert without_revisions(streams.contents()) == before


def test_a_fork_begins_open_and_knows_no_writer_of_its_source(streams: Streams) -> None:
    streams.create(body=b"abc")
    streams.append(body=b"d", seq="m", producer=("p", 5, 0), close=True)
    streams.fork("fork")
    state = streams.find("fork")
    assert (state.closed, state.closed_by, state.stream_seq, dict(state.producers)) == (False, None, None, {})
    streams.append("fork", b"e", seq="a", producer=("p", 0, 0))
    assert streams.read("fork") == b"abcde"
    assert streams.find().producers["p"].epoch == 5


@pytest.mark.parametrize("content_type", [None, "text/plain", "TEXT/PLAIN; x=y"])
def test_a_fork_has_the_content_type_of_its_source(streams: Streams, content_type: str | None) -> None:
    streams.create(content_type="Text/Plain; charset=utf-8")
    streams.create("fork", b"", content_type, source="s")
    expected = content_type or "Text/Plain; charset=utf-8"
    assert streams.find("fork").config.content_type == expected


def test_asking_for_a_fork_again_finds_it_also_when_its_source_has_grown(streams: Streams) -> None:
    streams.create(body=b"abc")
    streams.fork("fork", body=b"own")
    streams.append(body=b"later")
    before = streams.contents()
    assert streams.fork("fork", body=b"own").existed
    assert streams.fork("fork", position=3).existed
    for difference in ({"position": 2}, {"sub_offset": 1}, {"source": "other"}, {"ttl": 5}, {"closed": True}):
        with pytest.raises(StreamExists):
            streams.create(**{"name": "fork", "content_type": None, "source": "s", **difference})
    assert streams.contents() == before


def test_of_many_who_make_one_fork_at_once_one_does(streams: Streams) -> None:
    streams.create(body=b"abc")
    request = create_request("fork", b"own", None, source="s")
    outcomes = all_at_once(*[partial(streams.store.create, request)] * 12)
    assert all(isinstance(outcome, Created) for outcome in outcomes)
    assert sum(isinstance(outcome, Created) and not outcome.existed for outcome in outcomes) == 1
    assert streams.read("fork") == b"abcown"
    assert list(streams.find().forks) == [streams.find("fork").config.uid]


def test_a_fork_that_is_deleted_while_it_is_asked_for_again_is_never_half_made(streams: Streams) -> None:
    """The deletion is decided after the request has looked for the fork, and before it is decided itself."""
    streams.create(body=b"abc")
    streams.fork("fork")
    request = create_request("fork", b"", None, source="s")
    all_at_once(partial(streams.store.remove, "fork"), partial(streams.store.create, request))
    streams.store.create(request)
    assert streams.read("fork") == b"abc"
    assert list(streams.find().forks) == [streams.find("fork").config.uid]


# -- who keeps whom -------------------------------------------------------------------------------------------------


def test_a_deleted_source_is_out_of_sight_and_its_forks_read_on(streams: Streams) -> None:
    streams.create(body=b"abc")
    for name in NAMES:
        streams.fork(name, body=b"own")
    streams.remove()
    for attempt in (streams.find, streams.append, streams.close_stream, streams.remove):
        with pytest.raises(StreamGone):
            attempt()
    with pytest.raises(PathBlocked):
        streams.create()
    with pytest.raises(ForkFromDeleted):
        streams.fork("late")
    with pytest.raises(PathBlocked):
        streams.fork("s", NAMES[0])
    for name in NAMES:
        assert streams.read(name) == b"abcown"
        streams.append(name, b"!")
    streams.fork("of a fork", NAMES[0], position=2)
    assert streams.read("of a fork") == b"ab"


def test_a_deleted_source_goes_with_its_last_fork(streams: Streams) -> None:
    streams.create(body=b"abc")
    for name in NAMES:
        streams.fork(name)
    streams.remove()
    for name in NAMES:
        assert "s" in streams.contents()
        streams.remove(name)
    assert streams.contents() == {}
    streams.create(body=b"new")
    assert streams.read() == b"new"


def test_a_source_that_was_not_deleted_outlives_its_forks(streams: Streams) -> None:
    streams.create(body=b"abc")
    for name in NAMES:
        streams.fork(name)
        streams.remove(name)
    assert dict(streams.find().forks) == {}
    streams.remove()
    assert streams.contents() == {}


def test_the_end_of_the_last_fork_cascades_up_the_chain(streams: Streams) -> None:
    streams.create("0", b"x")
    for number in range(1, 7):
        streams.fork(str(number), str(number - 1), b"x")
    for number in (0, 2, 1, 4, 5):
        streams.remove(str(number))
    assert streams.read("6") == b"x" * 7
    streams.remove("6")
    # Nobody has deleted number 3, so it and what it reads stay.
    assert sorted(streams.contents()) == ["0", "1", "2", "3"]
    assert streams.read("3") == b"xxxx"
    streams.remove("3")
    assert streams.contents() == {}


def test_who_reads_a_fork_while_it_and_its_source_go_finds_nothing_and_no_damage(streams: Streams) -> None:
    streams.create(body=b"abc")
    streams.fork("fork", body=b"def")
    fork = streams.find("fork")
    streams.remove()
    streams.remove("fork")
    with pytest.raises(StreamNotFound):
        streams.store.read(fork, 0, 2)


def test_a_second_fork_of_that_name_holds_its_source_as_the_first_did(streams: Streams) -> None:
    streams.create(body=b"abc")
    streams.fork("fork")
    streams.remove("fork")
    streams.fork("fork", position=1)
    streams.remove()
    assert streams.read("fork") == b"a"
    streams.remove("fork")
    assert streams.contents() == {}


def test_forks_and_deletions_that_race_leave_a_fork_that_reads_or_nothing(streams: Streams) -> None:
    streams.create(body=b"abc")
    requests = [create_request(name, b"", None, source="s") for name in NAMES]
    calls: list[Any] = [partial(streams.store.create, request) for request in requests]
    calls.insert(3, partial(streams.store.remove, "s"))
    all_at_once(*calls)
    there = [name for name in streams.contents() if name != "s"]
    for name in there:
        assert streams.read(name) == b"abc"
        streams.remove(name)
    assert streams.contents() == {}


# -- lifetimes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "asked", "lives_s"),
    [
        ({}, {}, None),
        ({}, {"ttl": 30}, 30),
        ({}, {"expires_at": 30}, 30),
        ({"ttl": 60}, {}, 60),
        ({"ttl": 60}, {"ttl": 30}, 30),
        ({"ttl": 60}, {"expires_at": 90}, 90),
        ({"expires_at": 60}, {}, 60),
        ({"expires_at": 60}, {"ttl": 30}, 30),
        ({"expires_at": 60}, {"expires_at": 90}, 90),
    ],
)
def test_a_fork_lives_as_the_nine_rows_say(
    streams: Streams, source: dict[str, int], asked: dict[str, int], lives_s: int | None
) -> None:
    now = streams.clock.now

    def lifetime(of: dict[str, int]) -> dict[str, Any]:
        return {name: now + value if name == "expires_at" else value for name, value in of.items()}

    streams.create(body=b"abc", **lifetime(source))
    streams.fork("fork", **lifetime(asked))
    if lives_s is None:
        streams.clock.now = now + 1e6
        assert streams.read("fork") == b"abc"
        return
    streams.clock.now = now + lives_s - 0.5
    assert streams.find("fork").tail == 3
    assert streams.fork("fork", **lifetime(asked)).existed
    is_window = streams.find("fork").config.expiry.ttl_s is not None
    streams.clock.now = now + (streams.window(lives_s) if is_window else lives_s)
    with pytest.raises(StreamNotFound):
        streams.find("fork")


def test_a_source_that_expires_is_kept_for_its_forks_and_goes_with_them(streams: Streams) -> None:
    streams.create(body=b"abc", ttl=10)
    streams.fork("fork", ttl=100)
    streams.clock.now += streams.window(10)
    with pytest.raises(StreamGone):
        streams.find()
    with pytest.raises(ForkFromDeleted):
        streams.fork("late")
    streams.sweep()
    with pytest.raises(StreamGone):
        streams.find()
    assert streams.read("fork") == b"abc"
    streams.clock.now += streams.window(90)
    streams.sweep()
    assert streams.contents() == {}


def test_reads_of_a_fork_do_not_renew_its_source(streams: Streams) -> None:
    streams.create(body=b"abc", ttl=10)
    streams.fork("fork")
    streams.clock.now += 9
    streams.store.touch(streams.find("fork"))
    assert streams.read("fork") == b"abc"
    streams.clock.now += streams.window(10) - 9
    with pytest.raises(StreamGone):
        streams.find()
    assert streams.find("fork").config.expiry.ttl_s == 10


# -- crashes between two steps --------------------------------------------------------------------------------------


def take_reference(streams: Streams, uid: str, fork: str = "fork") -> None:
    """The first of the two steps that make a fork where it cannot be made in one."""
    source = streams.find()
    request = AddFork("s", source.config.uid, uid, fork)
    streams.store._pipeline.submit(request)


def remove_without_release(streams: Streams, fork: str) -> None:
    """The first of the two steps that end a fork where it cannot be ended in one."""
    streams.storage.joins = lambda fork, source: False  # type: ignore[method-assign]
    try:
        streams.store._pipeline.submit(Remove(fork))
    finally:
        del streams.storage.joins


def test_a_reference_whose_fork_never_came_to_be_holds_nothing(streams: Streams) -> None:
    streams.create(body=b"abc")
    take_reference(streams, "never")
    streams.clock.now += ORPHAN_AGE_S
    streams.remove()
    assert streams.contents() == {}


def test_a_reference_that_is_young_holds_its_stream_for_the_fork_that_is_being_made(streams: Streams) -> None:
    """Perhaps by another process, which nobody here can ask."""
    streams.create(body=b"abc")
    uid = streams.find().config.uid
    take_reference(streams, "young")
    streams.clock.now += ORPHAN_AGE_S - 1
    streams.remove()
    point = ForkPoint("s", uid, 3, 3, 0, inherits_expiry=True, life=1)
    resolved = replace(
        create_request("fork", b"own", None, source="s"), identity=Identity("young", 0), fork_point=point
    )
    streams.storage.joins = lambda fork, source: False  # type: ignore[method-assign]
    streams.store._pipeline.submit(resolved)
    del streams.storage.joins
    assert streams.read("fork") == b"abcown"
    streams.clock.now += RECHECK_DELETED_S
    assert streams.sweep() == 1
    assert streams.read("fork") == b"abcown"
    streams.remove("fork")
    assert streams.contents() == {}


def test_a_restart_makes_an_orphan_of_a_young_reference_where_nobody_else_can_be_at_work(
    lasting: Streams,
) -> None:
    """A killed server must not keep the name of a deleted stream from its client."""
    lasting.create(body=b"abc")
    take_reference(lasting, "never")
    lasting.clock.now += 1
    lasting.reopen()
    lasting.remove()
    assert (lasting.contents() == {}) is not lasting.storage.shared


def test_an_orphan_that_was_young_when_its_stream_was_deleted_is_noticed(streams: Streams) -> None:
    streams.create(body=b"abc")
    take_reference(streams, "never")
    streams.clock.now += 10
    streams.remove()
    streams.clock.now += ORPHAN_AGE_S - 11
    assert streams.sweep() == 0
    assert "s" in streams.contents()
    streams.clock.now += 1
    assert streams.sweep() == 1
    assert streams.contents() == {}


def test_each_of_several_young_references_is_looked_at_in_its_time(open_streams: OpenStreams) -> None:
    streams = open_streams()
    begun_at = streams.clock.now
    streams.create(body=b"abc")
    take_reference(streams, "never")
    streams.clock.now += 20
    streams.fork("fork")
    streams.clock.now += 20
    take_reference(streams, "never either", "another")
    streams.remove()
    checks = []
    for second in range(40, 240, 10):
        streams.clock.now = begun_at + second
        checks += [second] * streams.sweep()
    assert checks == [60, 80, 100]
    assert streams.read("fork") == b"abc"
    streams.remove("fork")
    assert streams.contents() == {}


def test_a_reference_of_an_older_fork_of_that_name_holds_nothing(streams: Streams) -> None:
    streams.create(body=b"abc")
    take_reference(streams, "older")
    streams.clock.now += ORPHAN_AGE_S
    streams.fork("fork")
    streams.remove()
    assert len(streams.contents()["s"][0][13]) == 1
    streams.remove("fork")
    assert streams.contents() == {}


def test_a_fork_whose_end_was_not_told_to_its_source_is_noticed(streams: Streams) -> None:
    streams.create(body=b"abc")
    streams.fork("fork")
    streams.clock.now += ORPHAN_AGE_S
    streams.remove()
    remove_without_release(streams, "fork")
    assert "s" in streams.contents()
    streams.clock.now += RECHECK_DELETED_S - 1
    assert streams.sweep() == 0
    streams.clock.now += 1
    assert streams.sweep() == 1
    assert streams.contents() == {}


def test_a_deleted_source_goes_with_its_last_fork_whatever_a_crash_left_it(streams: Streams) -> None:
    streams.create(body=b"abc")
    for fork in ("one", "two", "three", "last"):
        streams.fork(fork)
    streams.remove()
    remove_without_release(streams, "one")
    remove_without_release(streams, "two")
    streams.clock.now += ORPHAN_AGE_S
    streams.remove("three")
    assert streams.read("last") == b"abc"
    streams.remove("last")
    assert streams.contents() == {}


def test_a_soft_deleted_stream_is_looked_at_once_an_interval(streams: Streams) -> None:
    streams.create(body=b"abc")
    streams.fork("fork")
    streams.remove()
    streams.clock.now += RECHECK_DELETED_S
    assert streams.sweep() == 1
    assert streams.sweep() == 0
    assert streams.read("fork") == b"abc"


def test_an_expired_stream_does_not_wait_for_forks_that_never_were(streams: Streams) -> None:
    streams.create(body=b"abc", ttl=100)
    take_reference(streams, "never")
    streams.clock.now += streams.window(100)
    streams.sweep()
    assert streams.contents() == {}


def test_a_release_that_comes_twice_harms_no_other_fork(streams: Streams) -> None:
    source = streams.create(body=b"abc").state
    streams.fork("fork")
    streams.fork("other")
    release = RemoveFork("s", source.config.uid, streams.find("fork").config.uid)
    streams.remove("fork")
    streams.remove()
    streams.store._pipeline.submit(release)
    assert streams.read("other") == b"abc"
