"""If-Match and If-None-Match of writes: which tags are current, how lists and weak tags count, and what is refused."""

from __future__ import annotations

import pytest

from durable_streams.protocol.caching import Precondition, check_precondition, entity_tag
from durable_streams.protocol.errors import PreconditionFailed
from durable_streams.protocol.state import StreamState
from tests.protocol.states import stream

OPEN = stream(5)
CLOSED = stream(5, closed=True)


def holds(
    state: StreamState | None, *, if_match: str | None = None, if_none_match: str | None = None
) -> bool:
    try:
        check_precondition(state, Precondition(if_match, if_none_match))
    except PreconditionFailed:
        return False
    return True


@pytest.mark.parametrize("state", [OPEN, CLOSED, None])
def test_a_refusal_names_the_end(state: StreamState | None) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        check_precondition(state, Precondition('"x"', None))
    assert dict(refused.value.headers) == ({} if state is None else {"Stream-Next-Offset": state.next_offset})


@pytest.mark.parametrize("coding", [None, "zstd", "gzip", "deflate"])
@pytest.mark.parametrize("start", [0, 3, 5])
@pytest.mark.parametrize("state", [OPEN, CLOSED], ids=["open", "closed"])
def test_every_read_that_reaches_the_end_gives_a_current_tag(
    state: StreamState, start: int, coding: str | None
) -> None:
    tag = entity_tag(state, start, 5, coding)
    assert holds(state, if_match=tag)
    assert not holds(state, if_none_match=tag)


@pytest.mark.parametrize(
    "tag",
    [
        entity_tag(OPEN, 0, 4),
        entity_tag(stream(6), 0, 6),
        entity_tag(stream(5, uid="j"), 0, 5),
        entity_tag(CLOSED, 0, 5),
        entity_tag(CLOSED, 0, 5, "gzip"),
        entity_tag(OPEN, 0, 5).strip('"'),
        "",
        '"',
        '""',
        '"i"',
        '"i:0"',
        '"i:5"',
        "garbage",
        '"*"',
    ],
)
def test_any_other_tag_is_not_current(tag: str) -> None:
    assert not holds(OPEN, if_match=tag)
    assert holds(OPEN, if_none_match=tag)


def test_an_open_tag_is_not_current_after_the_closure() -> None:
    assert not holds(CLOSED, if_match=entity_tag(OPEN, 0, 5))


@pytest.mark.parametrize("form", ["{}", '"x", {}', '{},"x"', ' "a" , {} '])
def test_one_of_a_list_is_enough(form: str) -> None:
    tags = form.format(entity_tag(OPEN, 0, 5))
    assert holds(OPEN, if_match=tags)
    assert not holds(OPEN, if_none_match=tags)


def test_a_weak_tag_counts_for_if_none_match_alone() -> None:
    weak = "W/" + entity_tag(OPEN, 0, 5)
    assert not holds(OPEN, if_match=weak)
    assert not holds(OPEN, if_none_match=weak)


def test_a_star_is_any_stream() -> None:
    assert holds(OPEN, if_match="*")
    assert not holds(None, if_match="*")
    assert not holds(OPEN, if_none_match="*")
    assert holds(None, if_none_match="*")


def test_both_have_to_hold() -> None:
    tag = entity_tag(OPEN, 0, 5)
    assert holds(OPEN, if_match=tag, if_none_match='"x"')
    assert not holds(OPEN, if_match=tag, if_none_match=tag)
    assert not holds(OPEN, if_match='"x"', if_none_match='"x"')
