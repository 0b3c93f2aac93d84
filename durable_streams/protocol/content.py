"""Content types, and what follows from them (sections 5.1, 5.8 and 9)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from durable_streams.protocol.errors import BadRequest, InvalidOffset

DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"
HEADER_SPACE: Final = " \t"
"""What may stand around a header's value; in HTTP nothing else is white space."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_CHARSET = re.compile(rf';[ \t]*charset="?({_TOKEN})', re.IGNORECASE)
_UTF_8_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}")


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


@lru_cache(maxsize=1024)
def is_json(content_type: str) -> bool:
    return media_type(content_type) == "application/json"


@lru_cache(maxsize=1024)
def is_text(content_type: str) -> bool:
    """Whether Server-Sent Events, which are UTF-8, may carry the bytes as they are (section 5.8)."""
    if is_json(content_type):
        return True
    charset = _CHARSET.search(content_type)
    return media_type(content_type).startswith("text/") and (
        charset is None or charset[1].lower() in _UTF_8_CHARSETS
    )


def check_position(position: int, tail: int) -> None:
    """Raise InvalidOffset when a read begins beyond the ``tail`` of its stream."""
    if position > tail:
        raise InvalidOffset("Invalid offset: it lies beyond the tail of the stream")
