"""The next event of a stream for a reader at some position (section 5.8); the same bytes for every reader there."""

from __future__ import annotations

from durable_streams.protocol import sse
from durable_streams.protocol.content import is_text
from durable_streams.protocol.state import StreamState
from durable_streams.streams.store import StreamStore

EVENT_BYTES_MAX = 256 * 1024
"""Stored bytes in one data event: enough to be cheap, little enough for others to get their turn."""


def next_data(store: StreamStore, state: StreamState, position: int, bytes_max: int) -> bytes:
    """Stored bytes for one event; ``b""`` at the tail, or while the last character's end has not arrived."""
    if position >= state.tail:
        return b""
    page = store.read(state, position, bytes_max)
    data = page.data
    if state.config.is_json or not is_text(state.config.content_type):
        return data
    if page.at_tail:
        return data if state.closed else data[: sse.whole_characters(data)]
    # A line break of two characters would be two line breaks in two events, so its first one waits for the next event.
    return data[: sse.whole_characters(data.removesuffix(b"\r"))] or data


def event(store: StreamStore, state: StreamState, data: bytes, stop: int, cursor: str) -> bytes:
    """A data event with its control event; the control event alone when there is no data."""
    at_tail = stop == state.tail
    offset = store.offset_at(state, stop)
    control = sse.control_event(offset, cursor, up_to_date=at_tail, closed=state.closed and at_tail)
    return sse.data_event(state.config, data, offset) + control if data else control
