"""Offsets: text that sorts as the positions do, names one stream, and nothing else is taken for one (section 8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.protocol.errors import InvalidOffset, OffsetGone
from durable_streams.protocol.offsets import (
    FROM_NOW,
    FROM_START,
    LIFE_MAX,
    POSITION_MAX,
    START,
    Offset,
    format_offset,
    life_at,
    parse_offset,
    parse_read_offset,
    position_of,
)
from durable_streams.protocol.state import ForkPoint, StreamState
from tests.protocol.states import LIFE, stream

LIVES = st.integers(1, LIFE_MAX)
POSITIONS = st.integers(0, POSITION_MAX)
ALL_ZERO = "0000000000000000_0000000000000000"


@given(LIVES, POSITIONS)
def test_an_offset_names_the_stream_and_position_it_was_made_of(life: int, position: int) -> None:
    assert parse_offset(format_offset(life, position)) == (life, position)


@given(LIVES, POSITIONS, POSITIONS)
def test_offsets_of_a_stream_sort_as_their_positions_do(life: int, one: int, other: int) -> None:
    assert (format_offset(life, one) < format_offset(life, other)) == (one < other)


@given(LIVES, POSITIONS)
def test_an_offset_needs_no_quoting_and_is_short(life: int, position: int) -> None:
    offset = format_offset(life, position)
    assert not set(offset) & set(",&=?/ +%")
    assert len(offset) == 33
    assert offset not in (FROM_START, FROM_NOW, ALL_ZERO)


def test_an_offset_is_written_as_the_documents_say() -> None:
    assert format_offset(1764289999123456, 123) == "1764289999123456_0000000000001230"
    assert format_offset(1, 0) == "0000000000000001_0000000000000000"


@given(LIVES, POSITIONS, st.integers(0, 9))
def test_a_last_digit_other_than_zero_is_rounded_down(life: int, position: int, more: int) -> None:
    field, _, digits = format_offset(life, position).partition("_")
    # What a client does that wants "the offset after this one": it adds to the second field, and keeps its width.
    assert parse_offset(f"{field}_{int(digits) + more:016d}") == (life, position)


@pytest.mark.parametrize("text", [FROM_START, ALL_ZERO, ALL_ZERO[:-1] + "1"])
def test_the_start_is_the_start_of_every_stream(text: str) -> None:
    assert parse_offset(text) == START


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        FROM_NOW,
        "NOW",
        "-2",
        "0000000000000000_000000000000000",
        "0000000000000000_00000000000000000",
        "0000000000000000-0000000000000000",
        "00000000000000000_000000000000000",
        "0000000000000000_000000000000000a",
        "000000000000000a_0000000000000000",
        "-000000000000001_0000000000000000",
        "0000000000000000_-000000000000001",
        "0000000000000000_+000000000000001",
        "0000000000000000_ 000000000000001",
        "0000000000000000_00000000000000_0",
        "0000000000000000_00000000000000\N{ARABIC-INDIC DIGIT ONE}1",
        "0000000000000000_00000000000000\N{SUPERSCRIPT TWO}1",
        "00000000000000\N{ARABIC-INDIC DIGIT ONE}1_0000000000000000",
        " 0000000000000000_0000000000000000",
        "0000000000000000_0000000000000000\n",
        "0" * 100_000,
    ],
)
def test_no_other_text_is_an_offset(text: str) -> None:
    with pytest.raises(InvalidOffset):
        parse_offset(text)


def test_a_read_may_also_name_nothing_or_now() -> None:
    assert parse_read_offset(None) == START
    assert parse_read_offset(FROM_NOW) is None
    assert parse_read_offset(format_offset(1, 2)) == (1, 2)
    with pytest.raises(InvalidOffset):
        parse_read_offset("")
    assert position_of(stream(7), None, source_of) == 7


# -- whose offset it is ---------------------------------------------------------------------------------------------

ROOT, CHILD, GRANDCHILD = LIFE - 200, LIFE - 100, LIFE


def family() -> dict[str, StreamState]:
    """``a``, its fork ``b`` at position 10, and a fork ``c`` of that at 20; each goes on to 30."""
    at_10 = ForkPoint("a", "a", 10, 10, 0, True, ROOT)
    at_20 = ForkPoint("b", "b", 20, 20, 0, True, CHILD)
    return {
        "a": stream(30, name="a", uid="a", life=ROOT),
        "b": stream(30, name="b", uid="b", life=CHILD, fork=at_10),
        "c": stream(30, name="c", uid="c", life=GRANDCHILD, fork=at_20),
    }


FAMILY = family()


def source_of(state: StreamState) -> StreamState:
    assert state.config.fork is not None
    return FAMILY[state.config.fork.source]


def test_a_fork_writes_its_ancestors_offsets_up_to_the_fork_point() -> None:
    lives = [life_at(FAMILY["c"], position, source_of) for position in range(31)]
    assert lives == [ROOT] * 11 + [CHILD] * 10 + [GRANDCHILD] * 10
    texts = [format_offset(life, position) for position, life in enumerate(lives)]
    assert texts == sorted(set(texts))


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("position", [0, 1, 9, 10, 11, 20, 21, 30])
def test_an_offset_that_a_stream_gives_out_leads_back_to_its_position(name: str, position: int) -> None:
    state = FAMILY[name]
    offset = Offset(life_at(state, position, source_of), position)
    assert position_of(state, offset, source_of) == position


@pytest.mark.parametrize("name", FAMILY)
def test_the_offset_of_the_tail_needs_no_look_at_the_source(name: str) -> None:
    fork = FAMILY[name].config.fork
    for tail in (fork.position if fork else 0, 30):
        state = stream(tail, name=name, life=FAMILY[name].config.life, fork=fork)
        assert state.next_offset == format_offset(life_at(state, tail, source_of), tail)


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("a", Offset(ROOT - 1, 0)),
        ("a", Offset(0, 1)),
        ("b", Offset(ROOT, 11)),
        ("c", Offset(ROOT, 11)),
        ("c", Offset(CHILD, 21)),
        ("c", Offset(ROOT - 1, 5)),
        ("c", Offset(ROOT + 1, 5)),
        ("c", Offset(CHILD + 1, 20)),
    ],
)
def test_an_offset_of_an_earlier_stream_is_gone(name: str, offset: Offset) -> None:
    with pytest.raises(OffsetGone):
        position_of(FAMILY[name], offset, source_of)


@pytest.mark.parametrize(
    ("name", "offset"), [("a", Offset(ROOT + 1, 0)), ("a", Offset(CHILD, 10)), ("c", Offset(LIFE_MAX, 5))]
)
def test_an_offset_of_a_later_stream_was_never_given_out(name: str, offset: Offset) -> None:
    with pytest.raises(InvalidOffset):
        position_of(FAMILY[name], offset, source_of)
