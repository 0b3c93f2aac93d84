"""Every stream in memory: its state, where its payload lies, and the payload that no file holds yet.

Changes that have been journaled are applied here, by a running server and by recovery alike. Everything happens in the
thread of the event loop, without switching greenlets.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

from BTrees.OOBTree import OOTreeSet

from durable_streams.protocol.state import StreamState
from durable_streams.storage.deadlines import Deadlines

NOWHERE: Final = -1
STREAM_FILE: Final = 0


class Location(NamedTuple):
    """Where the payload below ``written`` (a position) lies.

    ``checkpoint``: NOWHERE, STREAM_FILE, or the number of the checkpoint that holds it from its byte ``at`` on.
    ``checksum``: of the last block of a stream file, or of all the bytes in a checkpoint.
    """

    checkpoint: int
    at: int
    checksum: int
    written: int


class Record:
    """One stream; ``unflushed`` holds the payload from ``location.written`` to ``state.tail``."""

    __slots__ = ("gone", "id", "location", "state", "unflushed")

    def __init__(self, id: int, state: StreamState, location: Location) -> None:
        self.id = id
        self.state = state
        self.location = location
        self.unflushed: bytearray | None = None
        self.gone = False


class Frozen(NamedTuple):
    """A record as it was when a checkpoint began."""

    state: StreamState
    location: Location


class DirtySet:
    """What a checkpoint has to record: all that has changed since the one before."""

    def __init__(self) -> None:
        self.records: dict[Record, None] = {}
        self.gone: list[int] = []
        self.unsynced: set[int] = set()
        """Streams whose file has been written to and not synced."""

    def __bool__(self) -> bool:
        return bool(self.records or self.gone)

    def add(self, older: DirtySet) -> None:
        """Take back what a checkpoint that failed should have recorded."""
        self.records = {record: None for record in older.records if not record.gone} | self.records
        self.gone += older.gone
        self.unsynced |= older.unsynced


class Index:
    """All streams of a data directory."""

    def __init__(self) -> None:
        self.streams: dict[str, Record] = {}
        self.next_id = 1
        self.unflushed_bytes = 0
        """Payload in memory because no file but the journal holds it."""
        self.dirty = DirtySet()
        self.before: dict[Record, Frozen] | None = None
        """While a checkpoint is made: records that have changed since it began, as they were then."""
        self._names = OOTreeSet()
        self._deadlines = Deadlines()

    # -- looking -----------------------------------------------------------------------------------------------

    def known(self, name: str) -> StreamState | None:
        record = self.streams.get(name)
        return None if record is None else record.state

    def find(self, state: StreamState) -> Record | None:
        """The record of the uid that ``state`` is of."""
        record = self.streams.get(state.config.name)
        if record is None or record.state.config.uid != state.config.uid:
            return None
        return record

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        found = []
        for name in islice(self._names.keys(max(prefix, after)), limit + 1):
            if not name.startswith(prefix):
                break
            if name > after or not after:
                found.append(name)
        return found[:limit]

    def due(self, now: float, limit: int) -> list[str]:
        return self._deadlines.due(now, limit, self.known)

    # -- changing ----------------------------------------------------------------------------------------------

    def restore(self, records: Iterable[Record]) -> None:
        """Take what the checkpoints hold."""
        self.streams = {record.state.config.name: record for record in records}
        self._names = OOTreeSet(sorted(self.streams))
        for record in self.streams.values():
            self._deadlines.note(record.state)

    def begin(self, id: int, state: StreamState, payload: Iterable[bytes]) -> Record:
        """A stream that was not there before."""
        name = state.config.name
        record = Record(id, state, Location(NOWHERE, 0, 0, state.config.forked_at))
        self.streams[name] = record
        self._names.add(name)
        self.next_id = max(self.next_id, id + 1)
        self._add_payload(record, payload)
        self._note(record)
        return record

    def move(self, record: Record, state: StreamState, payload: Iterable[bytes]) -> None:
        """A stream has a new state, and more payload."""
        before = self.before
        if before is not None and record not in before:
            before[record] = Frozen(record.state, record.location)
        record.state = state
        self._add_payload(record, payload)
        self._note(record)

    def remove(self, record: Record) -> None:
        """A stream goes. A checkpoint that has begun before still sees what it was."""
        if self.before is not None:
            self.before.setdefault(record, Frozen(record.state, record.location))
        name = record.state.config.name
        del self.streams[name]
        self._names.remove(name)
        self.dirty.records.pop(record, None)
        self.dirty.gone.append(record.id)
        self.dirty.unsynced.discard(record.id)
        self.unflushed_bytes -= len(record.unflushed or b"")
        record.gone = True

    def settle(self, record: Record, location: Location) -> None:
        """Payload up to ``location.written`` is in a file now, so memory need not hold it."""
        held = record.location.written
        record.location = location
        if record.unflushed is None or location.written == held:
            return
        if not record.gone:
            self.unflushed_bytes -= location.written - held
        if location.written == record.state.tail:
            record.unflushed = None
        else:
            del record.unflushed[: location.written - held]

    def _add_payload(self, record: Record, payload: Iterable[bytes]) -> None:
        for data in payload:
            if not data:
                continue
            if record.unflushed is None:
                record.unflushed = bytearray(data)
            else:
                record.unflushed += data
            self.unflushed_bytes += len(data)

    def _note(self, record: Record) -> None:
        self.dirty.records[record] = None
        self._deadlines.note(record.state)
