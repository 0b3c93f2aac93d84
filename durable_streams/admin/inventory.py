"""All streams, in pages: what is there, and the details of one. Looks at a bounded part in each turn of the loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest
from itertools import islice
from typing import Final

from durable_streams.admin.describing import Json, damaged_document, stream_document, timestamp
from durable_streams.admin.turns import Turns
from durable_streams.protocol.errors import ProtocolError, StreamDamaged, StreamNotFound
from durable_streams.protocol.expiry import has_expired
from durable_streams.protocol.messages.framing import MESSAGE_END
from durable_streams.protocol.state import StreamState
from durable_streams.service import StreamService
from durable_streams.storage.contract import Found

LOOKED_UP_AT_ONCE: Final = 32
SHARED_LOOKED_UP_AT_ONCE: Final = 512
"""One question to the database."""
IDS_AT_ONCE: Final = 2048
COUNTED_AT_ONCE_BYTES: Final = 128 * 1024
COUNTED_IN_LIST_BYTES: Final = 64 * 1024
"""Messages of longer streams are not counted for a list."""
COUNTED_PER_LIST_BYTES: Final = 1024 * 1024
COUNTED_IN_DETAILS_BYTES: Final = 64 * 1024 * 1024


class Inventory:
    """The streams of one service. Internal ones, and those whose time is over, are not there for it."""

    def __init__(self, service: StreamService) -> None:
        self._store = service.store
        self._hub = service.hub

    # -- lists ---------------------------------------------------------------------------------------------------

    def page(self, prefix: str, after: str, limit: int) -> Json:
        """Up to ``limit`` streams whose names start with ``prefix`` and sort after ``after``, in order.

        ``next``: the ``after`` of the next page, null at the end. Soft-deleted streams are in the list.
        """
        names = self._store.names(prefix, after, limit + 1)
        turns, left = Turns(), COUNTED_PER_LIST_BYTES
        streams = []
        for name, found in self.look_up(names[:limit]):
            messages = None
            if isinstance(found, StreamState) and found.tail <= min(left, COUNTED_IN_LIST_BYTES):
                messages = self._count(found)
                left -= found.tail
            streams.append(self._document(name, found, messages))
            turns()
        return {"streams": streams, "next": names[limit - 1] if len(names) > limit else None}

    def look_up(self, names: Sequence[str]) -> Iterator[tuple[str, StreamState | StreamDamaged]]:
        """The recorded states of ``names``, or why one cannot be told, without those that are not there."""
        store, turns = self._store, Turns()
        size = SHARED_LOOKED_UP_AT_ONCE if store.storage.shared else LOOKED_UP_AT_ONCE
        for part in _parts(names, size):
            now = store.clock()
            states = store.writes.find_all(part, now)
            for name in part:
                found = states.get(name)
                if found is not None and not _is_over(found, now):
                    yield name, found
            turns()

    # -- one stream ----------------------------------------------------------------------------------------------

    def details(self, name: str, *, count_all: bool) -> Json:
        """One stream, soft-deleted too. ``count_all``: its messages however long it is. Raises StreamNotFound."""
        state = self._find(name)
        counts = count_all or state.tail <= COUNTED_IN_DETAILS_BYTES
        document = self._document(name, state, self._count(state) if counts else None)
        closed_by = state.closed_by
        document["closed_by"] = (
            None
            if closed_by is None
            else {"producer": closed_by[0], "epoch": closed_by[1], "seq": closed_by[2]}
        )
        document["stream_seq"] = state.stream_seq
        return document

    def producers(self, name: str, after: str, limit: int) -> Json:
        """Up to ``limit`` idempotent producers whose ids sort after ``after`` (section 5.2.1)."""
        producers = self._find(name).producers
        ids = _smallest(producers, after, limit + 1)
        return {
            "producers": [
                {"id": id, "epoch": found.epoch, "seq": found.seq, "seen_at": timestamp(found.seen_at)}
                for id in ids[:limit]
                if (found := producers.get(id)) is not None
            ],
            "next": ids[limit - 1] if len(ids) > limit else None,
        }

    def forks(self, name: str, after: str, limit: int) -> Json:
        """Up to ``limit`` streams that were forked from this one (section 4.2), as a list has them."""
        state = self._find(name)
        uid = state.config.uid
        names = _smallest({fork.name for fork in state.forks.values()}, after, limit + 1)
        forks = [
            self._document(fork, found, None)
            for fork, found in self.look_up(names[:limit])
            if isinstance(found, StreamDamaged)
            or (found.config.fork is not None and found.config.fork.source_uid == uid)
        ]
        return {"forks": forks, "next": names[limit - 1] if len(names) > limit else None}

    def boundary(self, name: str, position: int) -> Json:
        """The offset of the first whole message or character at or after the byte ``position``."""
        state = self._find(name)
        found = self._store.reader.boundary(state, position)
        return {"position": found, "offset": self._store.offset_at(state, found)}

    # ------------------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> StreamState:
        for _, found in self.look_up([name]):
            if isinstance(found, StreamDamaged):
                raise found
            return found
        raise StreamNotFound(name)

    def _document(self, name: str, found: Found, messages: int | None) -> Json:
        if not isinstance(found, StreamState):
            return damaged_document(name, str(found.cause) if found else "")
        return stream_document(found, messages, self._hub.watchers_of(name))

    def _count(self, state: StreamState) -> int | None:
        """The messages of a JSON stream; None for another one, and where its bytes cannot be read."""
        if not state.config.is_json:
            return None
        turns = Turns()
        count = position = 0
        try:
            while position < state.tail:
                page = self._store.read(state, position, COUNTED_AT_ONCE_BYTES)
                count += page.data.count(MESSAGE_END)
                position = page.stop
                turns()
        except ProtocolError:
            return None
        return count


def _is_over(found: StreamState | StreamDamaged, now: float) -> bool:
    return isinstance(found, StreamState) and not found.deleted and has_expired(found, now)


def _parts(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


def _smallest(ids: Iterable[str], after: str, count: int) -> list[str]:
    """The ``count`` smallest of ``ids`` beyond ``after``, in order, however many there are."""
    found: list[str] = []
    rest, turns = iter(ids), Turns()
    while part := list(islice(rest, IDS_AT_ONCE)):
        found = nsmallest(count, found + [id for id in part if id > after or not after])
        turns()
    return found
