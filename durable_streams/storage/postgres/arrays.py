"""Values and arrays in PostgreSQL's binary format, as parameters and results of the hot statements."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

TEXT: Final = 25
BYTEA: Final = 17
INT4: Final = 23
INT8: Final = 20
FLOAT8: Final = 701

_HEADER: Final = struct.Struct("!iiIii")
_LENGTH: Final = struct.Struct("!i")
_NULL: Final = _LENGTH.pack(-1)
_INT8_ITEM: Final = struct.Struct("!iq")
_INT4_ITEM: Final = struct.Struct("!ii")
_FLOAT8_ITEM: Final = struct.Struct("!id")
_INT8: Final = struct.Struct("!q")
_FLOAT8: Final = struct.Struct("!d")


def texts(values: Sequence[str]) -> bytes:
    return octets([value.encode("utf-8") for value in values], TEXT)


def octets(values: Sequence[bytes | None], element: int = BYTEA) -> bytes:
    """An array of byte strings; None is NULL."""
    parts = [_header(element, len(values), None in values)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def int4s(values: Sequence[int]) -> bytes:
    return _header(INT4, len(values), False) + b"".join([_INT4_ITEM.pack(4, value) for value in values])


def int8s(values: Sequence[int | None]) -> bytes:
    """An array of 64-bit integers; None is NULL."""
    items = [_NULL if value is None else _INT8_ITEM.pack(8, value) for value in values]
    return _header(INT8, len(values), None in values) + b"".join(items)


def float8s(values: Sequence[float | None]) -> bytes:
    """An array of doubles; None is NULL."""
    items = [_NULL if value is None else _FLOAT8_ITEM.pack(8, value) for value in values]
    return _header(FLOAT8, len(values), None in values) + b"".join(items)


def int8(value: int) -> bytes:
    return _INT8.pack(value)


def float8(value: float) -> bytes:
    return _FLOAT8.pack(value)


def to_int8(value: bytes) -> int:
    number: int = _INT8.unpack(value)[0]
    return number


def _header(element: int, count: int, has_null: bool) -> bytes:
    if not count:
        return struct.pack("!iiI", 0, 0, element)
    return _HEADER.pack(1, has_null, element, count, 1)
