"""Content types, and how JSON mode lays messages out in a stream (section 9).

A JSON message is stored as its own source text on one line, followed by ``,`` and a line break. An array body is
then ``[`` + any run of whole lines without its last two bytes + ``]``: nothing is parsed again on a read.
msgspec splits a body without building its values; what it refuses is judged by the standard parser, which also
knows lone surrogate escapes and names the place of an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NoReturn

import msgspec

from durable_streams.protocol.errors import BadRequest, EmptyArray, InvalidJson, InvalidOffset

DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"
MESSAGE_END: Final = b",\n"
HEADER_SPACE: Final = " \t"
"""What may stand around a header's value; in HTTP nothing else is white space."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}")
_JSON_SPACE = " \t\r\n"
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_check_value = msgspec.json.Decoder(msgspec.Raw).decode


@lru_cache(maxsize=1024)
def media_type(content_type: str) -> str:
    """The type without parameters, in lower case: what two content types are compared by."""
    return content_type.partition(";")[0].strip(HEADER_SPACE).lower()


@lru_cache(maxsize=1024)
def check_content_type(content_type: str) -> str:
    """``content_type`` without outer white space; raises BadRequest unless it names a media type."""
    text = content_type.strip(HEADER_SPACE)
    if not _MEDIA_TYPE.fullmatch(media_type(text)):
        raise BadRequest(f"Invalid header value for Content-Type: {text!r} is not a media type")
    return text


def is_json(content_type: str) -> bool:
    return media_type(content_type) == "application/json"


def is_text(content_type: str) -> bool:
    """Whether Server-Sent Events may carry the bytes as they are (section 5.8)."""
    return media_type(content_type).startswith("text/") or is_json(content_type)


def to_messages(body: bytes) -> bytes:
    """The stored form of a JSON body, one level of array flattened; ``b""`` for an empty array.

    Raises InvalidJson for anything that is not one JSON text in UTF-8 (sections 9.1.2 and 9.1.4).
    """
    text = _utf8(body)
    try:
        messages = _split(body)
    except (msgspec.MsgspecError, RecursionError):
        messages = _split_slowly(text)
    return MESSAGE_END.join([*messages, b""])


def to_appended_messages(body: bytes) -> bytes:
    """As ``to_messages``; raises EmptyArray for ``[]``, which is no append (section 9.1.3)."""
    stored = to_messages(body)
    if not stored:
        raise EmptyArray()
    return stored


def to_array(stored: bytes) -> bytes:
    """The body of a read: a JSON array of all messages in a run of whole stored lines."""
    return b"".join((b"[", memoryview(stored)[:-2], b"]"))


def pass_messages(data: bytes, count: int) -> tuple[int, int]:
    """How many of ``count`` messages are still to pass after the stored ``data``, and the bytes that were passed."""
    available = data.count(b"\n")
    if available < count:
        return count - available, len(data)
    end = 0
    for _ in range(count):
        end = data.index(b"\n", end) + 1
    return 0, end


def check_position(position: int, tail: int) -> None:
    """Raise InvalidOffset when a read begins beyond the ``tail`` of its stream."""
    if position > tail:
        raise InvalidOffset("Invalid offset: it lies beyond the tail of the stream")


def check_boundary(byte_before: bytes) -> None:
    """Raise InvalidOffset unless the stored byte before a position ends a JSON message."""
    if byte_before != MESSAGE_END[-1:]:
        raise InvalidOffset("Invalid offset: it lies inside a JSON message")


def _utf8(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidJson(f"not UTF-8 at byte {exc.start}") from None


def _split(body: bytes) -> Sequence[bytes | msgspec.Raw]:
    line = _one_line(body)
    if line != body:
        # Checked as it came: a line break inside a string is no JSON, but the space that it has become would be.
        _check_value(body)
    if line.startswith(b"["):
        return _split_array(line)
    _check_value(line)
    return [line]


def _one_line(text: bytes) -> bytes:
    # A line break can stand only between tokens: inside a string it must be escaped.
    return text.strip(b" \t\r\n").replace(b"\r", b" ").replace(b"\n", b" ")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Numbers stay text: their value is not wanted, and a huge one must not cost time.
_scan = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]


def _split_slowly(text: str) -> list[bytes]:
    try:
        return [_one_line(message.encode("utf-8")) for message in _messages_in(text)]
    except RecursionError:
        raise InvalidJson("nested too deeply") from None
    except StopIteration as exc:
        raise InvalidJson(f"expected a value at character {exc.value}") from None
    except ValueError as exc:
        raise InvalidJson(str(exc)) from None


def _messages_in(text: str) -> list[str]:
    start = _after_space(text, 0)
    value, end = _scan(text, start)
    if _after_space(text, end) != len(text):
        raise ValueError(f"unexpected text after the value at character {end}")
    if not isinstance(value, list):
        return [text[start:end]]
    messages: list[str] = []
    at = start + 1
    for _ in value:
        begin = _after_space(text, at)
        _, end = _scan(text, begin)
        messages.append(text[begin:end])
        at = _after_space(text, end) + 1
    return messages


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _JSON_SPACE:
        at += 1
    return at
