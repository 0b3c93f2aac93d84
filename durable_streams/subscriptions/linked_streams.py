"""The streams as subscriptions see them: what a client could read now, by path; and what is appended to some."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from durable_streams.eventloop.turns import yield_to_loop
from durable_streams.protocol.errors import InvalidOffset, ProtocolError, StreamDamaged
from durable_streams.protocol.offsets import FROM_NOW, FROM_START, parse_offset
from durable_streams.protocol.requests import Append, Producer
from durable_streams.protocol.state import StreamState
from durable_streams.protocol.subscriptions.requests import Situation
from durable_streams.streams.store import StreamStore

SLICE: Final = 500
"""Streams that are looked up between two turns of the event loop: about a millisecond."""
JSON: Final = "application/json"


class LinkedStreams:
    """Looks streams up for subscriptions; looking renews no window (section 5.1), because nobody has read."""

    def __init__(self, store: StreamStore) -> None:
        self._store = store

    def current(self, path: str) -> StreamState | None:
        """The stream, or None when there is none that a client could read."""
        try:
            return self._store.find(path)
        except StreamDamaged:
            raise
        except ProtocolError as exc:
            if exc.status in (404, 410):
                return None
            raise

    def current_all(self, paths: Sequence[str]) -> Mapping[str, StreamState]:
        """The streams among ``paths`` that a client could read, with one question."""
        return self._store.find_all(paths)

    def in_slices(self, paths: Iterable[str]) -> Iterator[tuple[list[str], Mapping[str, StreamState]]]:
        """``paths`` in pieces with their streams, and a turn for everybody else between two pieces."""
        rest = list(paths)
        for start in range(0, len(rest), SLICE):
            if start:
                yield_to_loop()
            some = rest[start : start + SLICE]
            yield some, self.current_all(some)

    def named(self, prefix: str) -> Iterator[tuple[list[str], Mapping[str, StreamState]]]:
        """All streams whose names begin with ``prefix``, in pieces."""
        after = ""
        while names := self._store.names(prefix, after, SLICE):
            yield names, self.current_all(names)
            after = names[-1]
            yield_to_loop()

    def situation(
        self,
        now: float,
        behind: Mapping[str, StreamState],
        stream: Callable[[str], StreamState | None] | None = None,
    ) -> Situation:
        """The moment of a decision. ``stream``: where streams are looked up, if not one by one."""
        return Situation(now, stream or self.current, behind, self._store.offset_at, self._position_of)

    def _position_of(self, stream: StreamState, text: str) -> int:
        if text in (FROM_START, FROM_NOW):
            raise InvalidOffset(f"Invalid offset: {text} is no position of a stream")
        return self._store.position_of(stream, parse_offset(text))

    def append_once(self, path: str, body: bytes, author: str, generation: int) -> None:
        """Append one JSON message, unless ``author`` has appended it for this generation or a later one.

        Raises the ProtocolError that refuses it. Generations are epochs of an idempotent producer (section 5.2.1), so
        a message that is sent again after a crash stands there once.
        """
        self._store.append(Append(path, JSON, body, producer=Producer(author, generation, 0)))
