"""Offsets: text that sorts as the positions do, and nothing else is taken for one (section 8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.protocol.offsets import (
    FROM_NOW,
    FROM_START,
    POSITION_MAX,
    format_offset,
    parse_position,
)

POSITIONS = st.integers(0, POSITION_MAX)


@given(POSITIONS)
def test_an_offset_names_the_position_it_was_made_of(position: int) -> None:
    assert parse_position(format_offset(position)) == position


@given(POSITIONS, POSITIONS)
def test_offsets_sort_as_their_positions_do(one: int, other: int) -> None:
    assert (format_offset(one) < format_offset(other)) == (one < other)


@given(POSITIONS)
def test_an_offset_needs_no_quoting_and_is_short(position: int) -> None:
    offset = format_offset(position)
    assert not set(offset) & set(",&=?/ +%")
    assert len(offset) < 256
    assert offset not in (FROM_START, FROM_NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        FROM_START,
        FROM_NOW,
        "NOW",
        "0000000000000000_000000000000000",
        "0000000000000000_00000000000000000",
        "0000000000000001_0000000000000000",
        "0000000000000000-0000000000000000",
        "0000000000000000_000000000000000a",
        "0000000000000000_-000000000000001",
        "0000000000000000_+000000000000001",
        "0000000000000000_ 000000000000001",
        "0000000000000000_00000000000000\N{ARABIC-INDIC DIGIT ONE}1",
        "0000000000000000_00000000000000\N{SUPERSCRIPT TWO}1",
        " 0000000000000000_0000000000000000",
        "0000000000000000_0000000000000000\n",
        "0" * 100_000,
    ],
)
def test_no_other_text_is_an_offset(text: str) -> None:
    assert parse_position(text) is None
