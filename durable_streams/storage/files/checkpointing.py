"""Making a checkpoint while the server goes on: docs/storage-files.md, "A checkpoint, step by step".

The event loop decides what to record, in slices of a few hundred streams; everything that touches the disk happens in a
thread, one call at a time. A checkpoint that fails changes nothing, but the journal stays.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Final, NamedTuple

from zlib_ng.zlib_ng import crc32

from durable_streams.eventloop.threads import Threads
from durable_streams.protocol.state import StreamState
from durable_streams.storage.files.checkpoints import BLOCK_STREAMS_MAX, CheckpointWriter
from durable_streams.storage.files.index import STREAM_FILE, DirtySet, Frozen, Index, Location, Record
from durable_streams.storage.files.journal import Journal, JournalFile, create_file
from durable_streams.storage.files.layout import Layout, deletions_allowed
from durable_streams.storage.files.reading import OpenFiles
from durable_streams.storage.files.records import Row
from durable_streams.storage.files.recovery import Recovered, remove_orphans
from durable_streams.storage.files.segments import StreamFiles
from durable_streams.storage.files.tuning import FileTuning
from durable_streams.storage.on_disk.disk import Disk, open_fd, says_busy
from durable_streams.storage.rows import to_row

log = logging.getLogger("durable_streams.storage")

SLICE_BYTES_MAX: Final = 4 << 20
LARGE_BYTES: Final = 8192
SYNCED_AT_ONCE: Final = 64


class Entry(NamedTuple):
    """One stream as the checkpoint has to record it; ``unflushed`` is what follows ``location.written``."""

    record: Record
    state: StreamState
    location: Location
    unflushed: bytes


class Cut(NamedTuple):
    """The state captured between two batches, when writing moves to the new journal."""

    dirty: DirtySet
    todo: Sequence[Record]
    base: int
    journal: int
    seq: int
    next_id: int


class FilesInForce:
    """The checkpoints and journals that the directory consists of, and the files that nobody needs any more."""

    def __init__(self, layout: Layout, recovered: Recovered) -> None:
        self.garbage = recovered.garbage
        self._layout = layout
        self._sizes = {file.footer.number: file.size for file in recovered.checkpoints}
        self._first_journal = recovered.first_journal
        self.added = 0
        """Checkpoints that have come into force since the opening."""

    @property
    def next_number(self) -> int:
        """Of the next checkpoint."""
        return max(self._sizes, default=0) + 1

    @property
    def base(self) -> int:
        """The oldest checkpoint in force."""
        return min(self._sizes)

    def wants_all(self, tuning: FileTuning) -> bool:
        """Whether it is time for a checkpoint of every stream, after which older ones are not needed."""
        if not self._sizes or len(self._sizes) >= tuning.checkpoints_max:
            return True
        base = self._sizes[self.base]
        return sum(self._sizes.values()) - base > base + tuning.outgrown_bytes

    def add(self, number: int, size: int, cut: Cut) -> None:
        """A checkpoint has come into force."""
        layout = self._layout
        self.added += 1
        self.garbage += map(layout.journal, range(self._first_journal, cut.journal))
        self._first_journal = cut.journal
        if cut.base == number:
            self.garbage += map(layout.checkpoint, self._sizes)
            self._sizes.clear()
        self._sizes[number] = size
        self.garbage += map(layout.stream, cut.dirty.gone)


class Checkpointing:
    """Makes one checkpoint after the other; all methods are called by one greenlet at a time."""

    def __init__(
        self,
        disk: Disk,
        layout: Layout,
        index: Index,
        journal: Journal,
        stream_files: StreamFiles,
        opened: OpenFiles,
        threads: Threads,
        tuning: FileTuning,
        recovered: Recovered,
    ) -> None:
        self.pending: dict[Record, None] = {}
        """Streams whose payload is about to be moved by a checkpoint, so nobody else must."""
        self._disk = disk
        self._layout = layout
        self._index = index
        self._journal = journal
        self._stream_files = stream_files
        self._opened = opened
        self._threads = threads
        self._tuning = tuning
        self._in_force = FilesInForce(layout, recovered)
        self._removed: set[int] = set()
        """Streams that have gone since the last checkpoint, and their files with them."""
        self._unreadable: set[int] = set()
        """Streams whose payload an earlier checkpoint has failed to read."""

    # -- the steps ---------------------------------------------------------------------------------------------

    def new_journal_file(self) -> JournalFile:
        """Step 1: where writing goes on."""
        return self._threads.run(create_file, self._disk, self._layout, self._journal.number + 1)

    def begin(self, everything: bool = False) -> Cut:
        """Step 1, at its end. No batch is being written when this is called, nor until it returns.

        ``everything``: record all streams, after which no older checkpoint is needed, also where it is not time for it.
        """
        index, base = self._index, self._in_force.next_number
        dirty, index.dirty = index.dirty, DirtySet()
        index.before = {}
        self.pending = dict(dirty.records)
        todo = _largest_first(dirty.records)
        if everything or self._in_force.wants_all(self._tuning):
            todo += [record for record in index.streams.values() if record not in dirty.records]
        else:
            base = self._in_force.base
        return Cut(dirty, todo, base, self._journal.number, self._journal.seq, index.next_id)

    def write(self, cut: Cut) -> None:
        """Steps 2 and 3. Raises OSError when no checkpoint was made."""
        number = self._in_force.next_number
        writer = self._threads.run(CheckpointWriter, self._disk, self._layout, number)
        with closing(writer):
            try:
                packed = self._write_streams(writer, cut)
                self._sync_stream_files(cut.dirty.unsynced)
                self._threads.run(writer.finish, cut.base, cut.journal, cut.seq, cut.next_id)
            except OSError:
                self._threads.run(writer.discard)
                raise
        self._in_force.add(number, writer.size, cut)
        self._unreadable.clear()
        self._removed.clear()
        for entry, location in packed:
            if entry.record.location is entry.location:
                self._index.settle(entry.record, location)

    @property
    def checkpoints(self) -> int:
        """How many have been made since the opening."""
        return self._in_force.added

    def end(self, cut: Cut, succeeded: bool) -> None:
        """The state that ``begin`` captured is not needed any more."""
        self._index.before = None
        self.pending = {}
        if not succeeded:
            self._index.dirty.add(cut.dirty)

    def remove_garbage(self) -> None:
        """Step 4: unlink what nobody needs, unless a reader of the directory holds it for a while."""
        if self._remove(self._in_force.garbage):
            self._in_force.garbage = []

    def remove_streams(self, ids: Sequence[int]) -> None:
        """Unlink the files of streams whose end the journal holds durably, before a checkpoint does; none is made now.

        Opening does not look at the files of streams, and the journal says that these have gone.
        """
        left = [id for id in ids if id not in self._removed]
        if self._remove([self._layout.stream(id) for id in left]):
            self._removed.update(left)

    def _remove(self, paths: Sequence[str]) -> bool:
        for path in paths:
            self._opened.forget(path)
        try:
            return self._threads.run(self._unlink, paths)
        except OSError:
            log.exception("files that are not needed any more stay in %s for now", self._layout.root)
            return False

    def remove_orphans(self) -> None:
        """After opening: unlink stream files that a crash has left and that belong to no stream."""
        live = {record.id for record in self._index.streams.values()}
        # Those that the next checkpoint will forget; until then what it replaces must stay whole.
        live.update(self._index.dirty.gone)
        self._threads.run(remove_orphans, self._disk, self._layout, live, self._index.next_id)

    # -- inside ------------------------------------------------------------------------------------------------

    def _write_streams(self, writer: CheckpointWriter, cut: Cut) -> list[tuple[Entry, Location]]:
        """Move payload to files and write the rows; returns the streams whose payload is in the checkpoint."""
        packed: list[tuple[Entry, Location]] = []
        for entries in self._slices(cut.todo):
            locations = self._threads.run(self._record, writer, entries, cut.dirty.unsynced)
            for entry, location in zip(entries, locations, strict=True):
                if location.checkpoint == writer.number:
                    packed.append((entry, location))
                elif entry.record.location is entry.location:
                    self._index.settle(entry.record, location)
                self.pending.pop(entry.record, None)
        gone = [Row(id) for id in cut.dirty.gone]
        if gone and cut.base != writer.number:
            for first in range(0, len(gone), 10 * BLOCK_STREAMS_MAX):
                self._threads.run(writer.add, (), gone[first : first + 10 * BLOCK_STREAMS_MAX])
        return packed

    def _slices(self, todo: Sequence[Record]) -> Iterator[list[Entry]]:
        entries: list[Entry] = []
        size = 0
        for record in todo:
            entry = self._entry(record)
            entries.append(entry)
            size += len(entry.unflushed)
            if len(entries) == BLOCK_STREAMS_MAX or size > SLICE_BYTES_MAX:
                yield entries
                entries, size = [], 0
        if entries:
            yield entries

    def _entry(self, record: Record) -> Entry:
        assert self._index.before is not None
        state, location = self._index.before.get(record) or Frozen(record.state, record.location)
        missing = state.tail - location.written
        unflushed = record.unflushed
        payload = bytes(memoryview(unflushed)[:missing]) if missing and unflushed is not None else b""
        return Entry(record, state, location, payload)

    def _record(
        self, writer: CheckpointWriter, entries: Sequence[Entry], unsynced: set[int]
    ) -> list[Location]:
        """In a thread: one slice."""
        payload: list[bytes] = []
        rows: list[Row] = []
        locations: list[Location] = []
        at = writer.payload_at
        for entry in entries:
            location, kept = self._move(entry, writer.number, at, unsynced)
            payload += kept
            at += sum(map(len, kept))
            locations.append(location)
            place = location.at if location.checkpoint == writer.number else location.checkpoint
            rows.append(Row(entry.record.id, to_row(entry.state), place, location.checksum))
        writer.add(payload, rows)
        return locations

    def _move(
        self, entry: Entry, number: int, at: int, unsynced: set[int]
    ) -> tuple[Location, Sequence[bytes]]:
        """Where the payload of a stream goes, and what of it goes into the checkpoint."""
        state, location, base = entry.state, entry.location, entry.state.config.forked_at
        own_bytes = state.tail - base
        if not own_bytes:
            return location, ()
        if location.checkpoint != STREAM_FILE and own_bytes <= self._tuning.packed_bytes_max:
            kept = [self._packed(entry), entry.unflushed]
            return Location(number, at, crc32(entry.unflushed, location.checksum), state.tail), kept
        if location.checkpoint == STREAM_FILE and not entry.unflushed:
            return location, ()
        start = b"" if location.checkpoint == STREAM_FILE else self._packed(entry)
        id = entry.record.id
        checksum = self._stream_files.add(
            id, entry.unflushed, location.written - base, location.checksum, start
        )
        unsynced.add(id)
        return Location(STREAM_FILE, 0, checksum, state.tail), ()

    def _packed(self, entry: Entry) -> bytes:
        """The payload that an older checkpoint holds, as it is.

        Its checksum is carried on and never made anew, so damage stays damage and concerns that stream alone. What
        cannot be read fails the checkpoint once; the second time it is given up, or no journal could ever be dropped.
        """
        location = entry.location
        length = location.written - entry.state.config.forked_at
        if not length:
            return b""
        try:
            with open_fd(self._disk, self._layout.checkpoint(location.checkpoint)) as fd:
                return self._disk.read(fd, length, location.at).ljust(length, b"\0")
        except OSError as exc:
            if says_busy(exc):
                raise
            if entry.record.id not in self._unreadable:
                self._unreadable.add(entry.record.id)
                raise
            log.error("payload of stream %r is lost: %s", entry.state.name, exc)
            return bytes(length)

    def _sync_stream_files(self, unsynced: set[int]) -> None:
        ids = iter(sorted(unsynced))
        try:
            while some := list(islice(ids, SYNCED_AT_ONCE)):
                self._threads.run(self._stream_files.sync, some)
            self._threads.run(self._stream_files.sync_names, unsynced)
        except OSError as exc:
            # The system may have dropped what it could not write, and a second try would succeed all the same.
            if not says_busy(exc):
                self._journal.failed = exc
            raise

    def _unlink(self, paths: Sequence[str]) -> bool:
        """In a thread: whether that was allowed."""
        with deletions_allowed(self._layout) as allowed:
            for path in paths if allowed else ():
                try:
                    self._disk.unlink(path)
                except OSError:
                    log.exception("%s is not needed any more and cannot be removed", path)
            return allowed


def _largest_first(records: Iterable[Record]) -> list[Record]:
    """Payload of a stream can only grow in memory until its turn comes, so those that write much come first."""
    large: list[Record] = []
    small: list[Record] = []
    for record in records:
        is_large = record.unflushed is not None and len(record.unflushed) > LARGE_BYTES
        (large if is_large else small).append(record)
    return large + small
