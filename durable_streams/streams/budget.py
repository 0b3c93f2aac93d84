"""What streams take of memory and how many they are, against two limits of the whole store.

A stream counts with its payload, and with what is remembered of it: names, types, producers, texts. The sizes are those
of CPython's objects, rounded, so that a client that sends no payload at all runs into the limit as well. The reference
that a source keeps of a fork counts with the fork, which goes together with it.
"""

from __future__ import annotations

from typing import Final

from durable_streams.protocol.errors import LimitReached, TooLarge
from durable_streams.protocol.names import is_reserved
from durable_streams.protocol.state import StreamConfig, StreamState
from durable_streams.storage.contract import Storage

STREAM_BYTES: Final = 512
"""Objects of one stream and its places in indexes."""
DEADLINE_BYTES: Final = 320
FORK_BYTES: Final = 256
"""The fork point, and the reference at the source."""
FIRST_PRODUCER_BYTES: Final = 192
"""Beside what each of them takes: their mapping."""
PRODUCER_BYTES: Final = 128
CLOSER_BYTES: Final = 128
TEXT_BYTES: Final = 56
"""Beside its characters."""
WIDE_CHARACTER_BYTES: Final = 4


class MemoryBudget:
    """Bytes and streams held in all, those of pending batches included, against their limits; 0 is none."""

    def __init__(self, limit: int, streams_max: int = 0) -> None:
        self.total = 0
        self.streams = 0
        self._limit = limit
        self._streams_max = streams_max

    @property
    def counts_streams(self) -> bool:
        """Whether there is a limit of streams, so that they are counted."""
        return bool(self._streams_max)

    def count_streams(self, storage: Storage) -> None:
        """Begin with the streams that are there now, those of other processes included; the storage is open."""
        if self._streams_max:
            self.streams = storage.count()

    def check_room(self, size: int) -> None:
        """Raise TooLarge when ``size`` more bytes would be too many."""
        if self._limit and self.total + size > self._limit:
            raise TooLarge("Memory limit exceeded")

    def add(self, before: StreamState | None, after: StreamState | None, entries: tuple[str, ...]) -> None:
        """Count a change of one stream; raises TooLarge or LimitReached and counts nothing.

        ``entries`` as those of a Change. A closure without payload is always counted: it is the way to an end.
        """
        growth = _growth(before, after, entries) if self._limit else 0
        if growth > 0 and self.total + growth > self._limit and not _only_closes(before, after):
            raise TooLarge("Memory limit exceeded")
        if self._streams_max:
            self._count(before, after)
        self.total += growth

    def take_back(
        self, before: StreamState | None, after: StreamState | None, entries: tuple[str, ...]
    ) -> None:
        """A change that was counted was not kept."""
        if self._limit:
            self.total -= _growth(before, after, entries)
        if self._streams_max:
            self._count(after, before, is_limited=False)

    def _count(
        self, before: StreamState | None, after: StreamState | None, *, is_limited: bool = True
    ) -> None:
        """Internal streams are not counted: the server makes them itself."""
        more = (after is not None) - (before is not None)
        state = after or before
        if not more or state is None or is_reserved(state.name):
            return
        if is_limited and more > 0 and self.streams >= self._streams_max:
            raise LimitReached("limits.max_streams", self._streams_max)
        self.streams += more


def held_bytes(state: StreamState | None) -> int:
    """What one stream takes of memory: its own payload, and what is remembered of it."""
    return 0 if state is None else state.own_bytes + remembered_bytes(state)


def remembered_bytes(state: StreamState) -> int:
    """What one stream takes beside its payload."""
    producers = sum(PRODUCER_BYTES + _text_bytes(id) for id in state.producers)
    return _config_bytes(state.config) + _seq_and_closer_bytes(state) + _first_bytes(state) + producers


def _growth(before: StreamState | None, after: StreamState | None, entries: tuple[str, ...]) -> int:
    """The difference of ``held_bytes``."""
    if before is None or after is None or before.config is not after.config:
        return held_bytes(after) - held_bytes(before)
    growth = after.tail - before.tail
    if before.stream_seq is after.stream_seq and before.producers is after.producers and not after.closed_by:
        return growth
    return growth + remembered_growth(before, after, entries)


def remembered_growth(before: StreamState, after: StreamState, entries: tuple[str, ...]) -> int:
    """The difference of ``remembered_bytes`` of two states of one stream: only ``entries`` are looked at."""
    growth = _seq_and_closer_bytes(after) - _seq_and_closer_bytes(before)
    growth += _first_bytes(after) - _first_bytes(before)
    for id in set(entries):
        more = (id in after.producers) - (id in before.producers)
        growth += more * (PRODUCER_BYTES + _text_bytes(id))
    return growth


def _first_bytes(state: StreamState) -> int:
    return FIRST_PRODUCER_BYTES if state.producers else 0


def _seq_and_closer_bytes(state: StreamState) -> int:
    closer = state.closed_by
    return _text_bytes(state.stream_seq) + (CLOSER_BYTES + _text_bytes(closer[0]) if closer else 0)


def _config_bytes(config: StreamConfig) -> int:
    expiry, fork = config.expiry, config.fork
    # The media type is a text of its own.
    size = STREAM_BYTES + _text_bytes(config.name) + 2 * _text_bytes(config.content_type)
    if expiry.ttl_s is not None or expiry.expires_at is not None:
        size += DEADLINE_BYTES + _text_bytes(expiry.expires_at_text)
    if fork is not None:
        size += FORK_BYTES + _text_bytes(fork.source)
    return size


def _text_bytes(text: str | None) -> int:
    """Of a text as Python keeps it, at most."""
    if text is None:
        return 0
    return TEXT_BYTES + (len(text) if text.isascii() else WIDE_CHARACTER_BYTES * len(text))


def _only_closes(before: StreamState | None, after: StreamState | None) -> bool:
    return before is not None and after is not None and after.closed and after.tail == before.tail
