"""One reader's place in a stream, and the events that take it to the tail (section 5.8)."""

from __future__ import annotations

import random

from durable_streams.protocol import caching, sse
from durable_streams.protocol.content import is_text
from durable_streams.protocol.state import StreamState
from durable_streams.store.streams import StreamStore


class Follower:
    """Asks for everything since its position; knows what has been said and so what is still to be said."""

    def __init__(
        self, store: StreamStore, state: StreamState, position: int, client_cursor: str | None, bytes_max: int
    ) -> None:
        """``bytes_max``: stored bytes in one data event."""
        self.state = state
        self.position = position
        self.ended = False
        """The end of the stream has been told; nothing may follow."""
        self._store = store
        self._bytes_max = bytes_max
        self._greeted = False
        self._cursor = caching.next_cursor(store.clock(), client_cursor, _jitter_s())
        content_type = state.config.content_type
        self._keeps_characters_whole = is_text(content_type) and not state.config.is_json

    def next_event(self) -> bytes:
        """A data event with its control event, or a control event alone when that is news; ``b""`` when nothing is."""
        state, start = self.state, self.position
        data = self._next_data()
        stop = start + len(data)
        at_tail = stop == state.tail
        closed = state.closed and at_tail
        if not data and self._greeted and not closed:
            return b""
        self._cursor = caching.later_cursor(self._store.clock(), self._cursor)
        control = sse.control_event(stop, self._cursor, up_to_date=at_tail, closed=closed)
        self.position, self.ended, self._greeted = stop, closed, True
        return sse.data_event(state, data, stop) + control if data else control

    def _next_data(self) -> bytes:
        state = self.state
        if self.position >= state.tail:
            return b""
        page = self._store.read(state, self.position, self._bytes_max)
        if not self._keeps_characters_whole or (page.at_tail and state.closed):
            return page.data
        # A character whose end is not there yet waits for it.
        whole = sse.whole_characters(page.data)
        return page.data[:whole] if whole or page.at_tail else page.data


def _jitter_s() -> int:
    return random.randint(1, caching.CURSOR_JITTER_S_MAX)
