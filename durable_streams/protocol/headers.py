"""Single header values as text <-> what they mean. Each raises InvalidHeader, naming the header, on bad text."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from durable_streams.protocol.content import HEADER_SPACE
from durable_streams.protocol.errors import BadRequest, InvalidHeader, InvalidOffset
from durable_streams.protocol.offsets import START, Offset, parse_offset
from durable_streams.protocol.requests import Producer
from durable_streams.protocol.state import NO_EXPIRY, Expiry

SAFE_INTEGER_MAX: Final = 2**53 - 1
"""The largest integer that JavaScript holds exactly (section 5.2.1)."""
KEPT_VALUE_CHARACTERS_MAX: Final = 256
"""Of Producer-Id, Stream-Seq and Content-Type, each of which is kept with the stream, or for every producer of it."""

_DAY, _TIME = r"\d{4}-\d{2}-\d{2}", r"(?:[01]\d|2[0-3]):[0-5]\d"
_RFC3339 = re.compile(rf"({_DAY})[Tt]({_TIME}:[0-5]\d)(\.\d+)?([Zz]|[+-]{_TIME})", re.ASCII)


def is_true(value: str | None) -> bool:
    """``Stream-Closed`` counts only when it is ``true``, in any case (section 4.1)."""
    return value is not None and value.strip(HEADER_SPACE).lower() == "true"


def parse_boolean(name: str, value: str | None) -> bool | None:
    """``true`` or ``false``, in any case; None where the header is not there."""
    if value is None:
        return None
    text = value.strip(HEADER_SPACE)
    if text.lower() not in ("true", "false"):
        raise InvalidHeader(name, f"{text!r} is neither true nor false")
    return text.lower() == "true"


def parse_integer(name: str, value: str) -> int:
    """A non-negative decimal integer of at most 2^53 - 1, without sign, leading zeros or anything else."""
    text = value.strip(HEADER_SPACE)
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and len(text) > 1):
        raise InvalidHeader(name, f"{text!r} is not a non-negative integer")
    if len(text) > 16 or int(text) > SAFE_INTEGER_MAX:
        raise InvalidHeader(name, f"{text!r} is larger than {SAFE_INTEGER_MAX}")
    return int(text)


def parse_expiry(ttl: str | None, expires_at: str | None) -> Expiry:
    """Stream-TTL or Stream-Expires-At (section 5.1); both together are refused."""
    if ttl is not None and expires_at is not None:
        raise BadRequest("Cannot specify both Stream-TTL and Stream-Expires-At")
    if ttl is not None:
        return Expiry(ttl_s=parse_integer("Stream-TTL", ttl))
    if expires_at is not None:
        text = expires_at.strip(HEADER_SPACE)
        return Expiry(expires_at=parse_instant("Stream-Expires-At", text), expires_at_text=text)
    return NO_EXPIRY


def parse_expected_offset(text: str) -> Offset:
    """Stream-Expected-Offset: an offset in form; ``-1`` and ``now`` name no place that a stream can end at."""
    try:
        offset = parse_offset(text.strip(HEADER_SPACE))
    except InvalidOffset as exc:
        raise InvalidHeader("Stream-Expected-Offset", exc.detail) from None
    if offset == START:
        raise InvalidHeader("Stream-Expected-Offset", f"{text!r} is a place to read from, and not an offset")
    return offset


def parse_instant(name: str, text: str) -> float:
    """An RFC 3339 date and time as seconds since 1970, which know no leap second."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise InvalidHeader(name, f"{text!r} is not an RFC 3339 date and time")
    day, clock, fraction, zone = match.groups()
    offset = "+00:00" if zone in "Zz" else zone
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{offset}").timestamp()
    except (ValueError, OverflowError) as exc:
        raise InvalidHeader(name, f"{text!r} is not a valid date and time ({exc})") from None
    return whole + float(fraction or 0)


def check_length(name: str, value: str) -> str:
    """``value``, which is kept with the stream; raises InvalidHeader beyond KEPT_VALUE_CHARACTERS_MAX."""
    if len(value) > KEPT_VALUE_CHARACTERS_MAX:
        raise InvalidHeader(name, f"it is longer than {KEPT_VALUE_CHARACTERS_MAX} characters")
    return value


def parse_producer(producer_id: str | None, epoch: str | None, seq: str | None) -> Producer | None:
    """The three Producer-* headers, all or none (section 5.2.1)."""
    if producer_id is None and epoch is None and seq is None:
        return None
    if producer_id is None or epoch is None or seq is None:
        raise BadRequest("Producer-Id, Producer-Epoch and Producer-Seq must be given together")
    if not producer_id.strip(HEADER_SPACE):
        raise InvalidHeader("Producer-Id", "it must not be empty")
    check_length("Producer-Id", producer_id)
    return Producer(producer_id, parse_integer("Producer-Epoch", epoch), parse_integer("Producer-Seq", seq))
