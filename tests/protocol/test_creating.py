"""PUT: what is made, and what counts as the same when it is there already (sections 4.2 and 5.1)."""

from __future__ import annotations

from typing import Any

import pytest

from durable_streams.protocol.creating import decide_create
from durable_streams.protocol.errors import (
    InvalidJson,
    PathBlocked,
    StaleDecision,
    StreamExists,
    TooLarge,
)
from durable_streams.protocol.offsets import Offset
from durable_streams.protocol.outcomes import Created
from durable_streams.protocol.requests import Create, ForkSource, Identity, Inherited, StreamLimits
from durable_streams.protocol.state import NO_EXPIRY, Expiry, ForkPoint, StreamState
from tests.protocol.states import LIFE, NOW, references, stream


def request(**more: Any) -> Create:
    given = {"content_type": "text/plain", "expiry": NO_EXPIRY, "closed": False, "body": b"", **more}
    return Create("s", identity=Identity("new", LIFE), **given)


def create(found: StreamState | None = None, limit: int = 0, **more: Any) -> tuple[Created, bytes]:
    decision = decide_create(found, request(**more), NOW, StreamLimits(bytes_max=limit))
    assert isinstance(decision.outcome, Created)
    assert decision.state is decision.outcome.state
    return decision.outcome, decision.data


def test_a_new_stream_is_what_was_asked_for() -> None:
    created, data = create(content_type="Text/Plain; charset=utf-8", body=b"abc", expiry=Expiry(ttl_s=60))
    state = created.state
    assert not created.existed
    assert (state.name, state.config.uid, state.config.content_type) == (
        "s",
        "new",
        "Text/Plain; charset=utf-8",
    )
    assert (state.tail, state.closed, state.touched_at, state.config.life) == (3, False, NOW, LIFE)
    assert state.config.expiry == Expiry(ttl_s=60)
    assert data == b"abc"


def test_without_a_content_type_it_is_bytes() -> None:
    created, _ = create(content_type=None)
    assert created.state.config.content_type == "application/octet-stream"


@pytest.mark.parametrize("body", [b"", b"all of it"])
def test_a_stream_can_be_created_closed(body: bytes) -> None:
    created, data = create(closed=True, body=body)
    assert created.state.closed
    assert data == body


@pytest.mark.parametrize(
    ("body", "stored"), [(b"", b""), (b"[]", b""), (b"[1,[2]]", b"1\n[2]\n"), (b"{}", b"{}\n")]
)
def test_a_json_stream_takes_messages(body: bytes, stored: bytes) -> None:
    created, data = create(content_type="application/json", body=body)
    assert data == stored
    assert created.state.tail == len(stored)


def test_a_body_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidJson):
        create(content_type="application/json", body=b"{")


def test_a_first_body_may_fill_the_stream_and_not_more() -> None:
    assert create(limit=3, body=b"abc")[0].state.tail == 3
    with pytest.raises(TooLarge):
        create(limit=3, body=b"abcd")


def test_a_fork_begins_where_it_left_its_source() -> None:
    point = ForkPoint("t", "j", 40, 38, 2, True, LIFE - 1)
    created, data = create(
        fork=ForkSource("t", Offset(LIFE - 1, 38), 2),
        fork_point=point,
        inherited=Inherited(Expiry(ttl_s=5)),
        body=b"xy",
    )
    state = created.state
    assert (state.tail, state.own_bytes, state.config.forked_at, data) == (42, 2, 40, b"xy")
    assert state.config.fork is point
    assert state.config.expiry == Expiry(ttl_s=5)
    assert (dict(state.producers), state.stream_seq) == ({}, None)


# -- asked again ----------------------------------------------------------------------------------------------------

TTL, DEADLINE = Expiry(ttl_s=60), Expiry(expires_at=NOW + 60, expires_at_text="2027-01-15T08:01:00Z")
SAME_DEADLINE = Expiry(expires_at=NOW + 60, expires_at_text="2027-01-15T09:01:00+01:00")
INHERITED = ForkPoint("t", "j", 40, 38, 2, True, LIFE - 1)
OF_ITS_OWN = ForkPoint("t", "j", 40, 38, 2, False, LIFE - 1)

AT_38, AT_40, LATER = Offset(LIFE - 1, 38), Offset(LIFE - 1, 40), Offset(LIFE, 38)

ASKED_AGAIN: list[tuple[StreamState, dict[str, Any], str | None]] = [
    # what is there, what is asked for, and the difference (None: it is the same)
    (stream(), {}, None),
    (stream(5), {"body": b"never appended again"}, None),
    (stream(), {"content_type": "TEXT/Plain; charset=utf-8"}, None),
    (stream(), {"content_type": "text/html"}, "content type is text/plain"),
    (stream(), {"content_type": None}, "content type"),
    (stream(content_type="application/octet-stream"), {"content_type": None}, None),
    (stream(closed=True), {"closed": True}, None),
    (stream(closed=True), {}, "it is closed"),
    (stream(), {"closed": True}, "it is open"),
    (stream(), {"expiry": TTL}, "TTL or expiry"),
    (stream(expiry=TTL), {}, "TTL or expiry"),
    (stream(expiry=TTL), {"expiry": TTL}, None),
    (stream(expiry=TTL), {"expiry": Expiry(ttl_s=61)}, "TTL or expiry"),
    (stream(expiry=TTL), {"expiry": DEADLINE}, "TTL or expiry"),
    (stream(expiry=DEADLINE), {"expiry": DEADLINE}, None),
    (stream(expiry=DEADLINE), {"expiry": SAME_DEADLINE}, None),
    (stream(expiry=DEADLINE), {"expiry": Expiry(expires_at=NOW + 61)}, "TTL or expiry"),
    (stream(expiry=DEADLINE), {}, "TTL or expiry"),
    (stream(), {"fork": ForkSource("t", None, 0)}, "it is not a fork"),
    (stream(42, fork=INHERITED), {}, "it is a fork"),
    (stream(42, fork=INHERITED), {"fork": ForkSource("t", AT_38, 2)}, None),
    (stream(42, fork=INHERITED), {"fork": ForkSource("t", AT_38, 2), "content_type": None}, None),
    (stream(42, fork=INHERITED), {"fork": ForkSource("t", None, 2)}, None),
    (stream(42, fork=INHERITED), {"fork": ForkSource("u", AT_38, 2)}, "a fork of t"),
    (stream(42, fork=INHERITED), {"fork": ForkSource("t", AT_40, 2)}, "fork offset"),
    (stream(42, fork=INHERITED), {"fork": ForkSource("t", LATER, 2)}, "fork offset"),
    (stream(42, fork=INHERITED), {"fork": ForkSource("t", AT_38, 0)}, "sub-offset"),
    (stream(42, fork=INHERITED, expiry=TTL), {"fork": ForkSource("t", AT_38, 2)}, None),
    (
        stream(42, fork=INHERITED, expiry=TTL),
        {"fork": ForkSource("t", AT_38, 2), "expiry": TTL},
        "TTL or expiry",
    ),
    (stream(42, fork=OF_ITS_OWN, expiry=TTL), {"fork": ForkSource("t", AT_38, 2), "expiry": TTL}, None),
    (stream(42, fork=OF_ITS_OWN, expiry=TTL), {"fork": ForkSource("t", AT_38, 2)}, "TTL or expiry"),
    (
        stream(42, fork=INHERITED),
        {"fork": ForkSource("t", AT_38, 2), "content_type": "text/html"},
        "content type",
    ),
]


@pytest.mark.parametrize(("found", "asked", "difference"), ASKED_AGAIN)
def test_a_stream_that_is_there_is_the_same_or_a_conflict(
    found: StreamState, asked: dict[str, Any], difference: str | None
) -> None:
    if difference is None:
        created, data = create(found, **asked)
        assert created.existed
        assert created.state is found
        assert data == b""
        return
    with pytest.raises(StreamExists, match=difference):
        create(found, **asked)


def test_the_name_of_a_soft_deleted_stream_is_blocked() -> None:
    with pytest.raises(PathBlocked):
        create(stream(deleted=True, forks=references("k")))


def test_a_stream_that_has_expired_meanwhile_is_not_taken_for_the_one_that_was_asked_for() -> None:
    expired = stream(expiry=TTL, touched_at=NOW - 60)
    with pytest.raises(StaleDecision):
        create(expired, expiry=TTL)
    with pytest.raises(StaleDecision):
        create(expired)


def test_a_fork_that_has_gone_meanwhile_is_not_made_without_its_source() -> None:
    with pytest.raises(StaleDecision):
        create(None, fork=ForkSource("t", None, 0))
