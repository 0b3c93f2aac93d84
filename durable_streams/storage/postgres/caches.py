"""What one process remembers of the database: the newest state it has seen of a stream, and pages of payload.

Neither is trusted for an answer to a reader: a state is confirmed by its mark before it is used for one, and the bytes
of a uid at a position never change.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from durable_streams.protocol.state import StreamState

PAGE_SHARE: Final = 8
"""No page takes more than this part of the cache."""


class StateCache:
    """The newest known states, by name; the least recently used go first."""

    def __init__(self, states_max: int) -> None:
        self._states: OrderedDict[str, StreamState] = OrderedDict()
        self._states_max = states_max

    def get(self, name: str) -> StreamState | None:
        state = self._states.get(name)
        if state is not None:
            self._states.move_to_end(name)
        return state

    def put(self, name: str, state: StreamState | None) -> None:
        """``state`` is now recorded; None when there is no such stream."""
        if state is None:
            self._states.pop(name, None)
            return
        self._states[name] = state
        self._states.move_to_end(name)
        if len(self._states) > self._states_max:
            self._states.popitem(last=False)

    def clear(self) -> None:
        self._states.clear()


class PageCache:
    """Payload by (uid, start, stop), at most ``bytes_max`` bytes; 0 keeps nothing."""

    def __init__(self, bytes_max: int) -> None:
        self._pages: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._bytes_max = bytes_max
        self._bytes = 0

    def get(self, uid: str, start: int, stop: int) -> bytes | None:
        key = (uid, start, stop)
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def put(self, uid: str, start: int, stop: int, page: bytes) -> None:
        if len(page) * PAGE_SHARE > self._bytes_max or (uid, start, stop) in self._pages:
            return
        self._pages[uid, start, stop] = page
        self._bytes += len(page)
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._pages.popitem(last=False)[1])
