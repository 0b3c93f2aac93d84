"""Offsets: positions in a stream as the text that clients carry (section 8).

A position is the number of stored bytes before it. As text it is two fields of sixteen decimal digits; the first is
always zero today, so that positions compare as text in the order in which they compare as numbers.
"""

from __future__ import annotations

from typing import Final

FROM_START: Final = "-1"
FROM_NOW: Final = "now"

_PREFIX = "0" * 16 + "_"
_LENGTH = len(_PREFIX) + 16
POSITION_MAX: Final = 10**16 - 1


def format_offset(position: int) -> str:
    """The offset of ``position`` (bytes from the start, 0 to 10^16 - 1)."""
    return f"{_PREFIX}{position:016d}"


def parse_position(text: str) -> int | None:
    """The position that ``text`` names, or None when this server can never have made that text."""
    digits = text[len(_PREFIX) :]
    if len(text) != _LENGTH or not text.startswith(_PREFIX) or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits)
