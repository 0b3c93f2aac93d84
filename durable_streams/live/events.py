"""The next event of a stream for a reader at some position (section 5.8); the same bytes for every reader there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from gevent.event import AsyncResult

from durable_streams.protocol import sse
from durable_streams.protocol.state import StreamState
from durable_streams.streams.store import StreamStore

EVENT_BYTES_MAX: Final = 256 * 1024
"""Stored bytes in one data event: enough to be cheap, little enough for others to get their turn."""
JOINED_BYTES_MAX: Final = 1024 * 1024
"""A longer data event is a piece of its own: joined with its control event, it would be copied for every reader."""
CHARACTER_BYTES_MAX: Final = 4
SHARED_BYTES_MIN: Final = 16 * 1024
"""Smaller events are read and encoded again in no more time than it takes to find them."""
SHARED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Stored bytes of all events that wait for further readers: those who catch up together follow one another closely."""


class NotText(Exception):
    """What comes next is no UTF-8, so events of text end before it."""


@dataclass
class Part:
    """Stored bytes that one data event carries; ``data`` is empty when there is nothing for it."""

    state: StreamState
    data: bytes
    stop: int
    """The position behind it."""
    is_all: bool
    """Nothing that can be sent now follows."""
    as_base64: bool
    offset: str
    """The offset of ``stop``."""

    @cached_property
    def data_event(self) -> bytes:
        """Encoded when it is asked for; every reader of the same part gets the same bytes."""
        if not self.data:
            return b""
        return sse.data_event(self.state.config, self.data, self.offset, as_base64=self.as_base64)

    def seen_from(self, state: StreamState) -> Part | None:
        """The same part of a stream that may have grown meanwhile; None when another one must be read."""
        if self.state is state:
            return self
        is_held_back = self.is_all and self.stop < self.state.tail
        if is_held_back or self.stop > state.tail:
            return None
        found = replace(self, state=state, is_all=self.stop == state.tail)
        found.__dict__["data_event"] = self.data_event
        return found


_Place = tuple[str, int, int, bool]
"""The uid of a stream, a position, how many bytes are asked for, and whether they are for base64."""


class _SharedParts:
    """The large parts that were read last, and those that are being read now.

    A part of a stream never changes, so none is ever wrong.
    """

    def __init__(self) -> None:
        self._read: OrderedDict[_Place, Part] = OrderedDict()
        self._read_bytes = 0
        self._reading: dict[_Place, AsyncResult[Part | None]] = {}

    def get(self, state: StreamState, place: _Place, read: Callable[[], Part]) -> Part:
        """The part at ``place``; ``read()`` reads it, once for all who ask meanwhile."""
        part = self._read.get(place)
        if part is None and place in self._reading:
            part = self._reading[place].get()
        found = None if part is None else part.seen_from(state)
        return found or self._add(place, read)

    def _add(self, place: _Place, read: Callable[[], Part]) -> Part:
        reading = self._reading[place] = AsyncResult()
        part = None
        try:
            part = read()
        finally:
            if self._reading.get(place) is reading:
                del self._reading[place]
            reading.set(part)
        self._remember(place, part)
        return part

    def _remember(self, place: _Place, part: Part) -> None:
        replaced = self._read.pop(place, None)
        self._read_bytes -= len(replaced.data) if replaced else 0
        if not SHARED_BYTES_MIN <= len(part.data) <= SHARED_BYTES_MAX:
            return
        self._read[place] = part
        self._read_bytes += len(part.data)
        while self._read_bytes > SHARED_BYTES_MAX:
            _, oldest = self._read.popitem(last=False)
            self._read_bytes -= len(oldest.data)


_shared = _SharedParts()


def next_part(
    store: StreamStore, state: StreamState, position: int, bytes_max: int, *, as_base64: bool
) -> Part:
    """What one data event carries from ``position`` on, of about ``bytes_max`` stored bytes.

    Raises NotText, and what ``StreamStore.read`` raises.
    """
    if position >= state.tail:
        return Part(state, b"", position, True, as_base64, store.offset_at(state, position))
    read = _read_text if sse.is_text_event(state.config, as_base64=as_base64) else _read_page
    place = state.config.uid, position, bytes_max, as_base64
    return _shared.get(state, place, lambda: read(store, state, position, bytes_max, as_base64))


def pieces(part: Part, cursor: str) -> list[bytes]:
    """A data event with its control event, or the control event alone; a long data event stays by itself."""
    is_end = part.state.closed and part.stop == part.state.tail
    control = sse.control_event(part.offset, cursor, up_to_date=part.is_all, closed=is_end)
    data_event = part.data_event
    return [data_event, control] if len(data_event) > JOINED_BYTES_MAX else [data_event + control]


def _read_page(
    store: StreamStore, state: StreamState, position: int, bytes_max: int, as_base64: bool
) -> Part:
    page = store.read(state, position, bytes_max)
    return Part(state, page.data, page.stop, page.at_tail, as_base64, page.next_offset)


def _read_text(
    store: StreamStore, state: StreamState, position: int, bytes_max: int, as_base64: bool
) -> Part:
    """Whole characters. Event streams know one kind of line break, so no reader gets the halves of one as two."""
    part = _read_page(store, state, position, max(bytes_max, CHARACTER_BYTES_MAX), as_base64)
    data = part.data
    end, is_waiting = sse.text_end(data, is_complete=part.is_all and state.closed)
    if not end and not is_waiting:
        raise NotText
    if end < len(data):
        part.data, part.stop = data[:end], position + end
        part.is_all = part.is_all and is_waiting
        part.offset = store.offset_at(state, part.stop)
    if data.startswith(b"\n") and position and store.read(state, position - 1, 1).data == b"\r":
        part.data = part.data[1:]
    return part
