"""Offsets: positions of one stream as the text that clients carry (section 8).

An offset is two fields of sixteen decimal digits. The first is the *life* of the stream: its creation time in
microseconds since 1970. The second is the position, the number of stored bytes before it, followed by one spare digit
``0``: ``1764289999123456_0000000000001230`` is position 123. Offsets of one stream therefore sort as their positions
do, and an offset of a deleted stream is never taken for one of its successor. A last digit other than 0 is rounded
down, since some clients ask for "the offset after this one" by adding 1.

A fork has a life of its own, later than its source's, and uses its source's offsets up to the fork point, that point
included: "Offsets and forked streams" in section 8 asks for the same text in both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.protocol.errors import InvalidOffset, OffsetGone

if TYPE_CHECKING:
    from durable_streams.protocol.state import StreamState

    SourceOf = Callable[[StreamState], StreamState]

FROM_START: Final = "-1"
FROM_NOW: Final = "now"

_LIFE_DIGITS: Final = 16
_POSITION_DIGITS: Final = 15
OFFSET_LENGTH: Final = _LIFE_DIGITS + 1 + _POSITION_DIGITS + 1
"""Characters of every offset."""
LIFE_MAX: Final = 10**_LIFE_DIGITS - 1
POSITION_MAX: Final = 10**_POSITION_DIGITS - 1


class Offset(NamedTuple):
    """A parsed offset, which may belong to any stream."""

    life: int
    """Creation time of its stream in microseconds since 1970."""
    position: int
    """Stored bytes before it."""


START: Final = Offset(0, 0)
"""The start of every stream, as ``-1`` or all zeros."""


def format_offset(life: int, position: int) -> str:
    """The offset of ``position`` (0 to POSITION_MAX) in the stream of that life (1 to LIFE_MAX)."""
    return f"{life:016d}_{position:015d}0"


def parse_offset(text: str) -> Offset:
    """What ``text`` names; raises InvalidOffset unless it is an offset in form. ``-1`` is START."""
    if text == FROM_START:
        return START
    life, position = text[:_LIFE_DIGITS], text[_LIFE_DIGITS + 1 :]
    if (
        len(text) != OFFSET_LENGTH
        or text[_LIFE_DIGITS] != "_"
        or not (text.isascii() and (life + position).isdigit())
    ):
        raise InvalidOffset(f"Invalid offset format: {text!r} was never given out by this server")
    return Offset(int(life), int(position) // 10)


def parse_read_offset(text: str | None) -> Offset | None:
    """What a read names: also START for None, and None for ``now``."""
    if text is None:
        return START
    return None if text == FROM_NOW else parse_offset(text)


def life_at(state: StreamState, position: int, source_of: SourceOf) -> int:
    """The life that the offset of ``position`` carries: that of the stream or ancestor whose offset it is.

    ``source_of`` gives the source of a fork; it is asked only for positions before the fork point.
    """
    while (fork := state.config.fork) is not None and position <= fork.position:
        if position == fork.position:
            return fork.life
        state = source_of(state)
    return state.config.life


def position_of(state: StreamState, offset: Offset | None, source_of: SourceOf) -> int:
    """The position in ``state`` that ``offset`` names (None: its tail); it may lie beyond the tail.

    Raises OffsetGone for an offset of an earlier stream (deleted and created again), InvalidOffset for any other that
    is neither this stream's nor an ancestor's up to the fork point.
    """
    if offset is None:
        return state.tail
    life, position = offset
    if life == state.config.life or offset == START:
        return position
    if life > state.config.life:
        raise InvalidOffset("Invalid offset: it was never given out by this stream")
    descendant = state
    while (fork := descendant.config.fork) is not None and position <= fork.position:
        if life == fork.life:
            return position
        descendant = source_of(descendant)
        if life == descendant.config.life:
            return position
    raise OffsetGone(state.config.name)
