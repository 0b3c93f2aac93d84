"""Stream names: the part of the path after the base, percent-decoded once. Checked in the order given here."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from durable_streams.protocol.errors import InvalidStreamName, RouteNotFound

RESERVED: Final = "__ds"
"""Control APIs live under this first segment (section 6); it never names a stream."""
RESERVED_END: Final = RESERVED + "/\U0010ffff"
"""Sorts after every name below that segment."""


def is_reserved(name: str) -> bool:
    return name == RESERVED or name.startswith(RESERVED + "/")


@lru_cache(maxsize=4096)  # The same few names come again and again; a refused one is not kept.
def check_name(name: str, bytes_max: int, segments_max: int) -> str:
    """``name`` itself; raises InvalidStreamName, or RouteNotFound below the reserved prefix. Limits are inclusive."""
    if is_reserved(name):
        raise RouteNotFound()
    if not name:
        raise InvalidStreamName("stream name cannot be empty")
    if name.endswith("/"):
        raise InvalidStreamName("stream name must not end with '/'")
    segments = name.split("/")
    if "" in segments:
        raise InvalidStreamName("stream name contains empty segments (consecutive '/' characters)")
    for dots in (".", ".."):
        if dots in segments:
            raise InvalidStreamName(f"stream name contains invalid segment '{dots}'")
    if "\0" in name:
        raise InvalidStreamName("stream name contains a NUL character")
    size = len(name) if name.isascii() else len(name.encode("utf-8"))
    if size > bytes_max:
        raise InvalidStreamName(
            f"stream name is {size} bytes, which exceeds the maximum of {bytes_max} bytes"
        )
    if len(segments) > segments_max:
        raise InvalidStreamName(
            f"stream name has {len(segments)} path segments, which exceeds the maximum of {segments_max}"
        )
    return name
