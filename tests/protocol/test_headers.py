"""Single header values: what is understood, to the letter, and what is refused by name (sections 4.1, 5.1, 5.2.1)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.protocol.errors import BadRequest, InvalidHeader
from durable_streams.protocol.headers import (
    SAFE_INTEGER_MAX,
    is_true,
    parse_expiry,
    parse_instant,
    parse_integer,
    parse_producer,
)
from durable_streams.protocol.requests import Producer
from durable_streams.protocol.state import NO_EXPIRY, Expiry


@pytest.mark.parametrize("value", ["true", "TRUE", "True", "tRuE", " true", "true\t", " true "])
def test_stream_closed_counts_when_it_is_true_in_any_case(value: str) -> None:
    assert is_true(value)


@pytest.mark.parametrize(
    "value",
    [None, "", " ", "false", "1", "yes", "on", "truee", "tru", "true,", "true, true", "t rue", "\xa0true"],
)
def test_any_other_stream_closed_counts_as_absent(value: str | None) -> None:
    assert not is_true(value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("1", 1),
        ("3600", 3600),
        (" 60 ", 60),
        ("\t60", 60),
        (str(SAFE_INTEGER_MAX), SAFE_INTEGER_MAX),
        ("9007199254740991", 2**53 - 1),
    ],
)
def test_a_decimal_integer_up_to_what_javascript_holds_is_read(text: str, number: int) -> None:
    assert parse_integer("Stream-TTL", text) == number


BAD_INTEGERS = [
    "",
    " ",
    "+3600",
    "-1",
    "-0",
    "03600",
    "00",
    "3600.0",
    "3.6e3",
    "3600s",
    "0x10",
    "1_000",
    "1 000",
    "1,000",
    "Infinity",
    "NaN",
    "\N{SUPERSCRIPT TWO}",
    "\xa05",
    "9007199254740992",
    "10000000000000000",
    "9" * 10_000,
]
"""None of these is a number of seconds, of an epoch or of a sequence (sections 5.1 and 5.2.1)."""


@pytest.mark.parametrize("text", BAD_INTEGERS, ids=lambda text: repr(text)[:20])
def test_no_other_text_is_an_integer_and_the_header_is_named(text: str) -> None:
    with pytest.raises(InvalidHeader, match=r"^Invalid header value for Stream-TTL: ") as refused:
        parse_integer("Stream-TTL", text)
    assert refused.value.status == 400


def test_a_stream_may_have_a_window_or_a_deadline_or_neither() -> None:
    assert parse_expiry(None, None) is NO_EXPIRY
    assert parse_expiry("60", None) == Expiry(ttl_s=60)
    assert parse_expiry("0", None) == Expiry(ttl_s=0)
    text = "2027-01-15T08:00:00Z"
    assert parse_expiry(None, f" {text} ") == Expiry(expires_at=1_800_000_000.0, expires_at_text=text)


def test_window_and_deadline_together_are_refused() -> None:
    with pytest.raises(BadRequest, match="Cannot specify both"):
        parse_expiry("60", "2027-01-15T08:00:00Z")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2027-01-15T08:00:00Z", 1_800_000_000.0),
        ("2027-01-15t08:00:00z", 1_800_000_000.0),
        ("2027-01-15T09:30:00+01:30", 1_800_000_000.0),
        ("2027-01-15T00:00:00-08:00", 1_800_000_000.0),
        ("2027-01-15T08:00:00-00:00", 1_800_000_000.0),
        ("2027-01-15T08:00:00.5Z", 1_800_000_000.5),
        ("2027-01-15T08:00:00.250000000000Z", 1_800_000_000.25),
        ("2028-02-29T00:00:00Z", 1_835_395_200.0),
        ("1969-12-31T23:59:59Z", -1.0),
        ("0001-01-01T00:00:00Z", -62_135_596_800.0),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140.0),
        ("9999-12-31T23:59:59-23:59", 253_402_387_139.0),
    ],
)
def test_an_rfc_3339_instant_is_read(text: str, seconds: float) -> None:
    assert parse_instant("Stream-Expires-At", text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "1800000000",
        "2027-01-15",
        "2027-01-15T08:00Z",
        "2027-01-15T08:00:00",
        "2027-01-15 08:00:00Z",
        "2027-01-15T08:00:00+0100",
        "2027-01-15T08:00:00+01",
        "2027-01-15T08:00:00.Z",
        "2027-01-15T08:00:00,5Z",
        "20270115T080000Z",
        "2027-W02-5T08:00:00Z",
        "+2027-01-15T08:00:00Z",
        "2027-1-15T08:00:00Z",
        "2027-02-29T08:00:00Z",
        "2027-13-01T08:00:00Z",
        "2027-00-01T08:00:00Z",
        "2027-01-15T24:00:00Z",
        "2027-01-15T08:60:00Z",
        "2027-01-15T08:00:61Z",
        "2016-12-31T23:59:60Z",
        "2027-01-15T08:00:00+24:00",
        "2027-01-15T08:00:00+01:60",
        "0000-01-01T00:00:00Z",
        "\N{ARABIC-INDIC DIGIT TWO}027-01-15T08:00:00Z",
        "Fri, 15 Jan 2027 08:00:00 GMT",
        "2027-01-15T08:00:00Z\n",
    ],
)
def test_no_other_text_is_an_instant(text: str) -> None:
    with pytest.raises(InvalidHeader, match=r"^Invalid header value for Stream-Expires-At: "):
        parse_instant("Stream-Expires-At", text)


INSTANTS = st.datetimes(
    min_value=datetime(1900, 1, 1),
    max_value=datetime(2200, 1, 1),
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


@given(INSTANTS)
def test_every_instant_means_the_same_in_every_zone(instant: datetime) -> None:
    seconds = parse_instant("Stream-Expires-At", instant.isoformat())
    assert seconds == pytest.approx(instant.timestamp(), abs=1e-5)


def test_the_three_producer_headers_are_read_together() -> None:
    assert parse_producer(None, None, None) is None
    assert parse_producer("p", "0", "0") == Producer("p", 0, 0)
    assert parse_producer("a b/c", "7", "9007199254740991") == Producer("a b/c", 7, 2**53 - 1)


@pytest.mark.parametrize(
    "headers",
    [
        ("p", None, None),
        (None, "0", None),
        (None, None, "0"),
        ("p", "0", None),
        ("p", None, "0"),
        (None, "0", "0"),
        ("", "0", "0"),
        ("  ", "0", "0"),
    ],
)
def test_incomplete_producer_headers_are_refused(headers: tuple[str | None, str | None, str | None]) -> None:
    with pytest.raises(BadRequest):
        parse_producer(*headers)


@pytest.mark.parametrize("text", BAD_INTEGERS, ids=lambda text: repr(text)[:20])
def test_epoch_and_sequence_must_be_integers(text: str) -> None:
    with pytest.raises(InvalidHeader, match="Producer-Epoch"):
        parse_producer("p", text, "0")
    with pytest.raises(InvalidHeader, match="Producer-Seq"):
        parse_producer("p", "0", text)
