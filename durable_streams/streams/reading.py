"""Reading stored bytes: pages, and what a fork inherits from its source (section 4.2).

In JSON mode a page holds whole messages. Which position may be read is decided in ``protocol/``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from itertools import chain

from durable_streams.eventloop.turns import yield_to_loop
from durable_streams.protocol.content import check_position
from durable_streams.protocol.forking import lost_source
from durable_streams.protocol.messages.framing import (
    MESSAGE_END,
    array_bytes,
    check_boundary,
    pass_messages,
    to_array,
    to_array_pieces,
)
from durable_streams.protocol.names import RESERVED_END, is_reserved
from durable_streams.protocol.offsets import Offset, format_offset, life_at, position_of
from durable_streams.protocol.sse import is_base64
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Storage
from durable_streams.storage.finding import Find

SCAN_BYTES = 128 * 1024
"""Bytes read before others get a turn while message ends are searched; 64 Ki messages in them take 4 ms."""
CONTINUATION_BYTES_MAX = 3
"""Bytes of a character of UTF-8 after its first one."""
PAGE_PIECE_BYTES = 256 * 1024
"""Bytes read at once for a page without a limit; a longer one keeps no more than a few such pieces in memory."""


@dataclass(slots=True)
class Page:
    """Stored bytes from ``start`` to ``stop`` of a stream as it was in ``state``."""

    state: StreamState
    start: int
    stop: int
    data: bytes
    next_offset: str
    """The offset of ``stop``."""
    more: Iterable[bytes] | None = None
    """What follows ``data`` up to ``stop``, read when it is asked for; None: nothing.

    Raises what the read of a stream raises when it is deleted, or found damaged, meanwhile.
    """

    @property
    def body(self) -> bytes:
        """The bytes of a page without ``more`` as clients get them: in JSON mode an array of the messages."""
        config = self.state.config
        return to_array(self.data, old_messages=config.old_messages) if config.is_json else self.data

    def pieces(self) -> Generator[bytes]:
        """The same of a page with ``more``."""
        config = self.state.config
        stored = chain((self.data,), self.more or ())
        yield from to_array_pieces(stored, old_messages=config.old_messages) if config.is_json else stored

    @property
    def pieces_bytes(self) -> int | None:
        """How many bytes ``pieces`` are; None where only reading them can tell."""
        stored_bytes, config = self.stop - self.start, self.state.config
        return array_bytes(stored_bytes, old_messages=config.old_messages) if config.is_json else stored_bytes

    @property
    def at_tail(self) -> bool:
        return self.stop == self.state.tail


class Reader:
    """Reads the streams of one storage."""

    def __init__(self, storage: Storage, recorded: Find) -> None:
        """``recorded`` gives the state of a stream as recorded now."""
        self._storage = storage
        self._recorded = recorded

    def position_of(self, state: StreamState, offset: Offset | None) -> int:
        """The position that ``offset`` names (None: the tail); raises OffsetGone or InvalidOffset."""
        return position_of(state, offset, self._source_of)

    def life_at(self, state: StreamState, position: int) -> int:
        """The life that the offset of ``position`` carries."""
        return life_at(state, position, self._source_of)

    def offset_at(self, state: StreamState, position: int) -> str:
        """The offset of ``position`` as clients of that stream carry it."""
        return format_offset(self.life_at(state, position), position)

    def page(self, state: StreamState, start: int, bytes_max: int | None) -> Page:
        """At most ``bytes_max`` stored bytes from ``start``; in JSON mode whole messages, and at least one.

        None: all up to the tail, and what is more than PAGE_PIECE_BYTES of them as ``more``.
        Raises InvalidOffset for a position beyond the tail or inside a JSON message.
        """
        check_position(start, state.tail)
        if bytes_max is None:
            if state.tail - start > PAGE_PIECE_BYTES:
                return self._long_page(state, start)
            bytes_max = PAGE_PIECE_BYTES
        stop = min(state.tail, start + bytes_max)
        if state.config.is_json and stop > start:
            return self._page_of_messages(state, start, stop)
        return self._page(state, start, self.read(state, start, stop))

    def read(self, state: StreamState, start: int, stop: int) -> bytes:
        """The stored bytes from ``start`` to ``stop``, inherited ones included.

        Raises StreamNotFound when the stream has gone, StreamDamaged when its bytes, or its source, are lost.
        """
        if state.config.forked_at <= start < stop:
            return self._storage.read(state, start, stop)
        parts: list[bytes] = []
        while start < stop:
            forked_at = state.config.forked_at
            if stop > forked_at:
                parts.append(self._storage.read(state, max(start, forked_at), stop))
                stop = forked_at
            if start < stop:
                state = self._source_of(state)
        return parts[0] if len(parts) == 1 else b"".join(reversed(parts))

    def skip(self, state: StreamState, position: int, count: int) -> int:
        """The position ``count`` bytes, or JSON messages, after ``position``; beyond the tail when there are fewer.

        Raises InvalidOffset when ``position`` lies inside a JSON message.
        """
        if not state.config.is_json:
            return position + count
        if 0 < position < state.tail:
            check_boundary(self.read(state, position - 1, position))
        while count and position < state.tail:
            data = self.read(state, position, min(state.tail, position + SCAN_BYTES))
            count, passed = pass_messages(data, count)
            position += passed
            yield_to_loop()
        return position + count

    def boundary(self, state: StreamState, position: int) -> int:
        """The first position at or after ``position`` where a JSON message or a character begins; else the tail."""
        if not 0 < position < state.tail:
            return min(position, state.tail)
        if state.config.is_json:
            # The byte before it may end a message.
            return self._after_message_end(state, position - 1)
        if is_base64(state.config.content_type):
            return position
        data = self.read(state, position, min(state.tail, position + CONTINUATION_BYTES_MAX))
        return position + next((at for at, byte in enumerate(data) if byte & 0xC0 != 0x80), len(data))

    def _after_message_end(self, state: StreamState, position: int) -> int:
        while position < state.tail:
            data = self.read(state, position, min(state.tail, position + SCAN_BYTES))
            end = data.find(MESSAGE_END) + 1
            if end:
                return position + end
            position += len(data)
            yield_to_loop()
        return state.tail

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Up to ``limit`` names that start with ``prefix`` and sort after ``after``, in order; no internal ones."""
        found = self._storage.names(prefix, after, limit)
        if not any(map(is_reserved, found)):
            return found
        # Internal names sort together: the list goes on behind them.
        names = [name for name in found if name < RESERVED_END and not is_reserved(name)]
        return names + self._storage.names(prefix, max(after, RESERVED_END), limit - len(names))

    def _page_of_messages(self, state: StreamState, start: int, stop: int) -> Page:
        """``stop`` moves back to the end of a message, or on to the end of one that is larger than a page."""
        before = 1 if start else 0
        data = self.read(state, start - before, stop)
        if before:
            check_boundary(data[:1])
        end = len(data) if stop == state.tail else data.rfind(MESSAGE_END) + 1
        data = data[before:end] if end > before else self._whole_message(state, data[before:], stop)
        return self._page(state, start, data)

    def _page(self, state: StreamState, start: int, data: bytes) -> Page:
        stop = start + len(data)
        return Page(state, start, stop, data, self.offset_at(state, stop))

    def _long_page(self, state: StreamState, start: int) -> Page:
        if state.config.is_json and start:
            check_boundary(self.read(state, start - 1, start))
        first, tail = start + PAGE_PIECE_BYTES, state.tail
        # The first piece is read now, while what is wrong can still be reported.
        data = self.read(state, start, first)
        more = (
            self.read(state, at, min(tail, at + PAGE_PIECE_BYTES))
            for at in range(first, tail, PAGE_PIECE_BYTES)
        )
        return Page(state, start, tail, data, self.offset_at(state, tail), more)

    def _whole_message(self, state: StreamState, begun: bytes, stop: int) -> bytes:
        parts = [begun]
        while True:
            more = self.read(state, stop, min(state.tail, stop + SCAN_BYTES))
            stop += len(more)
            end = more.find(MESSAGE_END) + 1
            parts.append(more[:end] if end else more)
            if end or not more:
                return b"".join(parts)
            yield_to_loop()

    def _source_of(self, state: StreamState) -> StreamState:
        fork = state.config.fork
        assert fork is not None
        source = self._recorded(fork.source)
        if source is None or source.config.uid != fork.source_uid:
            raise lost_source(state, self._recorded(state.name))
        return source
