"""Entity tags, If-None-Match, Cache-Control, and cursors by section 10.1 to the letter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.protocol.caching import (
    CURSOR_EPOCH_S,
    CURSOR_INTERVAL_S,
    CURSOR_JITTER_S_MAX,
    cache_control,
    entity_tag,
    later_cursor,
    next_cursor,
    tag_matches,
)
from durable_streams.protocol.state import Expiry, evolve
from tests.protocol.states import NOW, stream

CURRENT = (int(NOW) - CURSOR_EPOCH_S) // CURSOR_INTERVAL_S
"""The interval that NOW lies in: a number of seven digits."""
JITTERS = st.integers(1, CURSOR_JITTER_S_MAX)


# -- entity tags ----------------------------------------------------------------------------------------------------


def test_tags_differ_by_uid_start_end_closure_and_coding() -> None:
    state = stream(10)
    closed = stream(10, closed=True)
    tags = [
        entity_tag(state, 0, 10),
        entity_tag(stream(10, uid="j"), 0, 10),
        entity_tag(state, 1, 10),
        entity_tag(state, 0, 9),
        entity_tag(state, 10, 10),
        entity_tag(closed, 0, 10),
        entity_tag(closed, 10, 10),
        entity_tag(state, 0, 10, "gzip"),
        entity_tag(state, 0, 10, "zstd"),
        entity_tag(closed, 0, 10, "gzip"),
    ]
    assert len(set(tags)) == len(tags)
    assert all(tag.startswith('"') and tag.endswith('"') and tag.count('"') == 2 for tag in tags)


def test_a_page_before_the_end_keeps_its_tag_when_the_stream_is_closed() -> None:
    assert entity_tag(stream(10), 0, 5) == entity_tag(stream(10, closed=True), 0, 5)


TAG = '"i:0:10"'


@pytest.mark.parametrize(
    "value",
    [
        TAG,
        f"W/{TAG}",
        f'"other", {TAG}',
        f'{TAG}, "other"',
        f'"other",W/{TAG} ,"another"',
        f"  {TAG}  ",
        "*",
        " * ",
    ],
)
def test_an_if_none_match_that_names_the_tag_matches(value: str) -> None:
    assert tag_matches(value, TAG)


@pytest.mark.parametrize(
    "value", ["", '"other"', 'W/"other"', "i:0:10", '"i:0:10:c"', '"i:0:1"', '"a", *', "w/" + TAG, ",", '""']
)
def test_any_other_if_none_match_does_not(value: str) -> None:
    assert not tag_matches(value, TAG)


# -- Cache-Control --------------------------------------------------------------------------------------------------

FULL = "public, max-age=60, stale-while-revalidate=300"


@pytest.mark.parametrize(
    ("expiry", "expected"),
    [
        (Expiry(), FULL),
        (Expiry(ttl_s=3600), FULL),
        (Expiry(ttl_s=360), FULL),
        (Expiry(ttl_s=359), "public, max-age=60"),
        (Expiry(ttl_s=30), "public, max-age=30"),
        (Expiry(ttl_s=0), "public, max-age=0"),
        (Expiry(expires_at=NOW + 3600), FULL),
        (Expiry(expires_at=NOW + 359.5), "public, max-age=60"),
        (Expiry(expires_at=NOW + 10.9), "public, max-age=10"),
        (Expiry(expires_at=NOW - 1), "public, max-age=0"),
    ],
)
def test_nothing_is_cached_for_longer_than_the_stream_lives(expiry: Expiry, expected: str) -> None:
    assert cache_control(stream(expiry=expiry), 0, 3, NOW, "public") == expected


def test_confidential_streams_are_private() -> None:
    assert cache_control(stream(), 0, 3, NOW, "private") == FULL.replace("public", "private")


@pytest.mark.parametrize("expiry", [Expiry(), Expiry(ttl_s=3600)])
def test_an_empty_read_is_kept_only_at_the_end_of_a_closed_stream(expiry: Expiry) -> None:
    state = stream(expiry=expiry)
    assert cache_control(state, state.tail, state.tail, NOW, "public") == "no-store"
    closed = evolve(state, closed=True)
    assert cache_control(closed, closed.tail, closed.tail, NOW, "public") == FULL


# -- cursors --------------------------------------------------------------------------------------------------------


def test_the_epoch_is_the_ninth_of_october_2024() -> None:
    assert next_cursor(CURSOR_EPOCH_S, None, 1) == "0"
    assert next_cursor(CURSOR_EPOCH_S + 19.999, None, 1) == "0"
    assert next_cursor(CURSOR_EPOCH_S + 20, None, 1) == "1"


@pytest.mark.parametrize(
    "client",
    [
        None,
        "",
        "0",
        "5",
        str(CURRENT - 1),
        "-1",
        "+5",
        " 5",
        "1e9",
        "1.5",
        "0x10",
        "abc",
        "NaN",
        "Infinity",
        "\N{ARABIC-INDIC DIGIT NINE}" * 12,
        "\N{SUPERSCRIPT NINE}" * 12,
        "9_000_000_000",
        "9" * 5000 + "x",
        "000000000000000000005",
    ],
    ids=lambda value: repr(value)[:20],
)
def test_without_a_cursor_that_is_ahead_the_answer_is_the_current_interval(client: str | None) -> None:
    assert next_cursor(NOW, client, 1) == str(CURRENT)


@pytest.mark.parametrize(
    ("jitter_s", "intervals"), [(1, 1), (20, 1), (21, 2), (40, 2), (41, 3), (3599, 180), (3600, 180)]
)
@pytest.mark.parametrize("ahead", [0, 1, 179, 10**6])
def test_a_client_that_is_there_already_is_sent_on_by_the_jitter(
    ahead: int, jitter_s: int, intervals: int
) -> None:
    client = CURRENT + ahead
    assert next_cursor(NOW, str(client), jitter_s) == str(client + intervals)


@pytest.mark.parametrize("digits", [20, 28, 29, 4299, 4301, 10_000])
def test_an_absurdly_long_cursor_goes_on_exactly(digits: int) -> None:
    assert next_cursor(NOW, "9" * digits, 1) == "1" + "0" * digits
    assert next_cursor(NOW, "8" * digits, 1) == "8" * (digits - 1) + "9"


@given(st.integers(0, 10**40), JITTERS, st.floats(CURSOR_EPOCH_S, 4e9))
def test_a_cursor_is_never_behind_the_client_nor_behind_the_clock(
    client: int, jitter_s: int, now: float
) -> None:
    current = int(now - CURSOR_EPOCH_S) // CURSOR_INTERVAL_S
    cursor = next_cursor(now, str(client), jitter_s)
    assert cursor.isdigit()
    assert int(cursor) >= current
    if client >= current:
        assert int(cursor) > client
    else:
        assert int(cursor) == current


@given(JITTERS, JITTERS, st.floats(0, 1e6))
def test_a_client_that_echoes_its_cursor_always_gets_a_later_one(
    one: int, other: int, later_s: float
) -> None:
    """Also from a server that was started anew: all that is used is the clock and what the client says."""
    first = next_cursor(NOW, None, one)
    second = next_cursor(NOW, first, other)
    third = next_cursor(NOW + later_s, second, one)
    assert int(first) < int(second)
    assert int(third) > int(second) or int(third) == (int(NOW + later_s) - CURSOR_EPOCH_S) // 20


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (str(CURRENT), str(CURRENT)),
        (str(CURRENT - 1), str(CURRENT)),
        ("9", str(CURRENT)),
        (str(CURRENT + 1), str(CURRENT + 1)),
        ("1" + "0" * 30, "1" + "0" * 30),
    ],
)
def test_on_one_connection_the_cursor_never_goes_back(last: str, expected: str) -> None:
    assert later_cursor(NOW, last) == expected


def test_a_deadline_passes_by_the_clock_and_not_by_reads() -> None:
    state = stream(expiry=Expiry(expires_at=NOW + 100))
    read_later = replace(state, touched_at=NOW + 50)
    assert cache_control(read_later, 0, 3, NOW + 80, "public") == "public, max-age=20"
