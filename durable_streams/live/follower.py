"""One reader's place in a stream, and what it has been told so far."""

from __future__ import annotations

import random

from durable_streams.live.events import EVENT_BYTES_MAX, next_part, pieces
from durable_streams.protocol import caching
from durable_streams.protocol.sse import is_base64
from durable_streams.protocol.state import StreamState
from durable_streams.streams.store import StreamStore


class Follower:
    """Asks for everything since its position; knows what has been said and so what is still to be said."""

    def __init__(
        self,
        store: StreamStore,
        state: StreamState,
        position: int,
        client_cursor: str | None,
        bytes_max: int = EVENT_BYTES_MAX,
        *,
        as_base64: bool | None = None,
    ) -> None:
        """``bytes_max``: stored bytes in one data event. ``as_base64``: None leaves it to the content type."""
        self.state = state
        self.position = position
        self.as_base64 = is_base64(state.config.content_type) if as_base64 is None else as_base64
        self.ended = False
        """The end of the stream has been told; nothing may follow."""
        self.broadcast_bytes = 0
        """Bytes that the broadcaster has written for this reader."""
        self._store = store
        self._bytes_max = bytes_max
        self._greeted = False
        jitter_s = random.randint(1, caching.CURSOR_JITTER_S_MAX)
        self._cursor = caching.next_cursor(store.clock(), client_cursor, jitter_s)

    def next_event(self) -> list[bytes]:
        """The event that takes the reader on, in one piece or two; empty when there is no news for it.

        Raises NotText before bytes that its events cannot carry.
        """
        if self.ended:
            return []
        state = self.state
        part = next_part(self._store, state, self.position, self._bytes_max, as_base64=self.as_base64)
        closed = state.closed and part.stop == state.tail
        if part.stop == self.position and self._greeted and not closed:
            return []
        self._cursor = caching.later_cursor(self._store.clock(), self._cursor)
        self.position, self.ended, self._greeted = part.stop, closed, True
        return pieces(part, self._cursor)

    @property
    def is_ahead(self) -> bool:
        """Its client's cursor lies in the future, so it cannot share what others are told."""
        now = self._store.clock()
        return caching.later_cursor(now, self._cursor) != caching.next_cursor(now, None, 1)
