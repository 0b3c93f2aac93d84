"""Deleting: the stream, its bytes and all that was remembered of it are gone (section 5.4)."""

from __future__ import annotations

from functools import partial

import pytest

from durable_streams.protocol.errors import Conflict, NotFound, ProtocolError, StreamNotFound
from durable_streams.protocol.outcomes import Appended, Created
from tests.contract.driving import Streams, all_at_once, append_request, create_request


def test_a_deleted_stream_is_not_there_any_more(streams: Streams) -> None:
    streams.create(body=b"abc")
    streams.remove()
    assert streams.contents() == {}
    with pytest.raises(StreamNotFound):
        streams.find()
    with pytest.raises(StreamNotFound):
        streams.append()
    with pytest.raises(StreamNotFound):
        streams.remove()


def test_a_stream_that_was_never_there_cannot_be_deleted(streams: Streams) -> None:
    streams.create("other")
    before = streams.contents()
    with pytest.raises(StreamNotFound):
        streams.remove()
    assert streams.contents() == before


def test_a_new_stream_of_that_name_knows_nothing_of_the_old_one(streams: Streams) -> None:
    old = streams.create(body=b"secret", content_type="text/html", ttl=60).state
    streams.append(content_type="text/html", seq="z", producer=("p", 9, 0), close=True)
    streams.remove()
    new = streams.create(body=b"new").state
    assert new.config.uid != old.config.uid
    assert streams.read() == b"new"
    assert streams.append(body=b"!", seq="a", producer=("p", 0, 0)).producer is not None
    with pytest.raises(StreamNotFound):
        streams.storage.read(old, 0, 6)


def test_deleting_and_creating_in_one_breath_leaves_the_new_stream(streams: Streams) -> None:
    """All are waiting at once, so that storages with a committer make one batch of them."""
    streams.create(body=b"old")
    streams.append(body=b"older")
    outcomes = all_at_once(
        partial(streams.store.append, append_request(body=b"oldest")),
        partial(streams.store.remove, "s"),
        partial(streams.store.create, create_request(body=b"new", content_type="text/html")),
        partial(streams.store.append, append_request(body=b"er", content_type="text/html")),
    )
    if streams.storage.shared:
        # A deletion and a creation ask the database first, so the order of the four is not given.
        assert all(
            isinstance(outcome, Conflict | NotFound)
            for outcome in outcomes
            if isinstance(outcome, ProtocolError)
        )
        return
    assert not any(isinstance(outcome, ProtocolError) for outcome in outcomes)
    assert isinstance(outcomes[2], Created)
    assert not outcomes[2].existed
    assert streams.read() == b"newer"
    assert streams.find().config.content_type == "text/html"


def test_creating_and_deleting_in_one_breath_leaves_nothing(streams: Streams) -> None:
    all_at_once(
        partial(streams.store.create, create_request(body=b"short")),
        partial(streams.store.append, append_request(body=b" life")),
        partial(streams.store.remove, "s"),
    )
    assert streams.contents() == {}
    streams.create(body=b"next")
    assert streams.read() == b"next"


def test_of_many_who_delete_one_stream_at_once_one_does(streams: Streams) -> None:
    streams.create()
    outcomes = all_at_once(*[partial(streams.store.remove, "s")] * 10)
    assert sum(isinstance(outcome, StreamNotFound) for outcome in outcomes) == 9


def test_appends_that_race_a_deletion_are_answered_before_it_or_refused(streams: Streams) -> None:
    streams.create()
    outcomes = all_at_once(
        *[partial(streams.store.append, append_request())] * 5,
        partial(streams.store.remove, "s"),
        *[partial(streams.store.append, append_request())] * 5,
    )
    came_first = [isinstance(outcome, Appended) for outcome in (*outcomes[:5], *outcomes[6:])]
    assert [isinstance(outcome, StreamNotFound) for outcome in (*outcomes[:5], *outcomes[6:])] == [
        not first for first in came_first
    ]
    # A deletion asks a shared storage first; elsewhere the order is that of the calls.
    assert streams.storage.shared or came_first == [True] * 5 + [False] * 5


def test_a_deletion_survives_a_restart(lasting: Streams) -> None:
    lasting.create("keep", b"kept")
    lasting.create(body=b"x" * 100_000)
    lasting.remove()
    lasting.reopen()
    assert list(lasting.contents()) == ["keep"]
    assert lasting.read("keep") == b"kept"
