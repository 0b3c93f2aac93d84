"""Making a checkpoint while the server goes on: docs/storage-files.md, "A checkpoint, step by step".

Deciding what to record happens in the event loop, in slices of a few hundred streams; everything that touches the
disk happens in a thread, one call at a time. A checkpoint that fails changes nothing, but the journal stays.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple
from zlib import crc32

from durable_streams.eventloop.threads import Threads
from durable_streams.protocol.state import StreamState
from durable_streams.storage.files.checkpoints import BLOCK_STREAMS_MAX, CheckpointWriter
from durable_streams.storage.files.index import OWN_FILE, Changed, Home, Index, Moment, Record
from durable_streams.storage.files.journal import Journal
from durable_streams.storage.files.layout import Layout, deletions_allowed
from durable_streams.storage.files.reading import OpenFiles
from durable_streams.storage.files.records import Row
from durable_streams.storage.files.recovery import Recovered
from durable_streams.storage.files.segments import OwnFiles
from durable_streams.storage.files.tuning import Tuning
from durable_streams.storage.on_disk.disk import Disk, says_busy
from durable_streams.storage.rows import to_row

log = logging.getLogger("durable_streams.storage")

SLICE_BYTES_MAX = 4 << 20
MUCH_BYTES = 8192
SYNCED_AT_ONCE = 64


class Plan(NamedTuple):
    """One stream as the checkpoint has to record it; ``tail`` is what follows ``home.written``."""

    record: Record
    state: StreamState
    home: Home
    tail: bytes


class Begun(NamedTuple):
    """What was the case at the moment between two batches from which the new journal goes on."""

    changed: Changed
    todo: Sequence[Record]
    base: int
    journal: int
    seq: int
    next_id: int


class Checkpointing:
    """Makes one checkpoint after the other; ``make`` and ``remove_garbage`` are called by one greenlet at a time."""

    def __init__(
        self,
        disk: Disk,
        layout: Layout,
        index: Index,
        journal: Journal,
        own_files: OwnFiles,
        opened: OpenFiles,
        threads: Threads,
        tuning: Tuning,
        recovered: Recovered,
    ) -> None:
        self.pending: dict[Record, None] = {}
        """Streams whose payload is about to be moved by a checkpoint, so nobody else must."""
        self._disk = disk
        self._layout = layout
        self._index = index
        self._journal = journal
        self._own_files = own_files
        self._opened = opened
        self._threads = threads
        self._tuning = tuning
        self._sizes = {file.footer.number: file.size for file in recovered.checkpoints}
        self._first_journal = recovered.first_journal
        self._garbage = recovered.garbage
        self._unreadable: set[int] = set()
        """Streams whose payload an earlier checkpoint has failed to read."""

    # -- the steps ---------------------------------------------------------------------------------------------

    def begin(self) -> Begun:
        """Step 1, up to the moment that counts. No batch is being written when this is called, nor until it returns."""
        index, number = self._index, max(self._sizes, default=0) + 1
        changed, index.changed = index.changed, Changed()
        index.before = {}
        self.pending = dict(changed.records)
        todo, base = _much_first(changed.records), number
        if self._wants_all():
            todo += [record for record in index.streams.values() if record not in changed.records]
        else:
            base = min(self._sizes)
        return Begun(changed, todo, base, self._journal.number, self._journal.seq, index.next_id)

    def write(self, begun: Begun) -> None:
        """Steps 2 and 3. Raises OSError when the checkpoint did not come to be."""
        number = max(self._sizes, default=0) + 1
        writer = self._threads.run(CheckpointWriter, self._disk, self._layout, number)
        with closing(writer):
            packed = self._write_streams(writer, begun)
            self._sync_own_files(begun.changed.unsynced)
            self._threads.run(writer.finish, begun.base, begun.journal, begun.seq, begun.next_id)
        self._adopt(writer, begun, packed)

    def end(self, begun: Begun, succeeded: bool) -> None:
        """The moment that ``begin`` began is over."""
        self._index.before = None
        self.pending = {}
        if not succeeded:
            self._index.changed.add(begun.changed)

    def remove_garbage(self) -> None:
        """Step 4: unlink what nobody needs, unless a reader of the directory holds it for a while."""
        for path in self._garbage:
            self._opened.forget(path)
        try:
            allowed = self._threads.run(self._unlink, self._garbage)
        except OSError:
            log.exception("files that are not needed any more stay in %s for now", self._layout.root)
        else:
            self._garbage = [] if allowed else self._garbage

    # -- inside ------------------------------------------------------------------------------------------------

    def _wants_all(self) -> bool:
        """Whether it is time for a checkpoint of every stream, after which older ones are not needed."""
        if not self._sizes or len(self._sizes) >= self._tuning.checkpoints_max:
            return True
        base = self._sizes[min(self._sizes)]
        return sum(self._sizes.values()) - base > base + self._tuning.outgrown_bytes

    def _write_streams(self, writer: CheckpointWriter, begun: Begun) -> list[tuple[Plan, Home]]:
        """Move payload to its homes and write the rows; returns the streams whose home is the checkpoint."""
        packed: list[tuple[Plan, Home]] = []
        for plans in self._slices(begun.todo):
            homes = self._threads.run(self._record, writer, plans, begun.changed.unsynced)
            for plan, home in zip(plans, homes, strict=True):
                if home.checkpoint == writer.number:
                    packed.append((plan, home))
                elif plan.record.home is plan.home:
                    self._index.settle(plan.record, home)
                self.pending.pop(plan.record, None)
        gone = [Row(id) for id in begun.changed.gone]
        if gone and begun.base != writer.number:
            for first in range(0, len(gone), 10 * BLOCK_STREAMS_MAX):
                self._threads.run(writer.add, (), gone[first : first + 10 * BLOCK_STREAMS_MAX])
        return packed

    def _slices(self, todo: Sequence[Record]) -> Iterator[list[Plan]]:
        plans: list[Plan] = []
        size = 0
        for record in todo:
            plan = self._plan(record)
            plans.append(plan)
            size += len(plan.tail)
            if len(plans) == BLOCK_STREAMS_MAX or size > SLICE_BYTES_MAX:
                yield plans
                plans, size = [], 0
        if plans:
            yield plans

    def _plan(self, record: Record) -> Plan:
        assert self._index.before is not None
        state, home = self._index.before.get(record) or Moment(record.state, record.home)
        missing = state.tail - home.written
        tail = bytes(memoryview(record.tail)[:missing]) if missing and record.tail is not None else b""
        return Plan(record, state, home, tail)

    def _record(self, writer: CheckpointWriter, plans: Sequence[Plan], unsynced: set[int]) -> list[Home]:
        """In a thread: one slice."""
        payload: list[bytes] = []
        rows: list[Row] = []
        homes: list[Home] = []
        at = writer.payload_at
        for plan in plans:
            home, kept = self._move(plan, writer.number, at, unsynced)
            payload += kept
            at += sum(map(len, kept))
            homes.append(home)
            place = home.at if home.checkpoint == writer.number else home.checkpoint
            rows.append(Row(plan.record.id, to_row(plan.state), place, home.checksum))
        writer.add(payload, rows)
        return homes

    def _move(self, plan: Plan, number: int, at: int, unsynced: set[int]) -> tuple[Home, Sequence[bytes]]:
        """Where the payload of a stream goes, and what of it goes into the checkpoint."""
        state, home, base = plan.state, plan.home, plan.state.config.forked_at
        own_bytes = state.tail - base
        if not own_bytes:
            return home, ()
        if home.checkpoint != OWN_FILE and own_bytes <= self._tuning.packed_bytes_max:
            kept = [self._packed(plan), plan.tail]
            return Home(number, at, crc32(plan.tail, home.checksum), state.tail), kept
        if home.checkpoint == OWN_FILE and not plan.tail:
            return home, ()
        start = b"" if home.checkpoint == OWN_FILE else self._packed(plan)
        id = plan.record.id
        checksum = self._own_files.add(id, plan.tail, home.written - base, home.checksum, start)
        unsynced.add(id)
        return Home(OWN_FILE, 0, checksum, state.tail), ()

    def _packed(self, plan: Plan) -> bytes:
        """The payload that an older checkpoint holds, as it is.

        Its checksum is carried on and never made anew, so damage stays damage and concerns that stream alone. What
        cannot be read fails the checkpoint once; the second time it is given up, or no journal could ever be dropped.
        """
        home = plan.home
        length = home.written - plan.state.config.forked_at
        if not length:
            return b""
        try:
            fd = self._disk.open(self._layout.checkpoint(home.checkpoint))
            try:
                return self._disk.read(fd, length, home.at).ljust(length, b"\0")
            finally:
                self._disk.close(fd)
        except OSError as exc:
            if says_busy(exc):
                raise
            if plan.record.id not in self._unreadable:
                self._unreadable.add(plan.record.id)
                raise
            log.error("payload of stream %r is lost: %s", plan.state.name, exc)
            return bytes(length)

    def _sync_own_files(self, unsynced: set[int]) -> None:
        ids = iter(sorted(unsynced))
        try:
            while some := list(islice(ids, SYNCED_AT_ONCE)):
                self._threads.run(self._own_files.sync, some)
            self._threads.run(self._own_files.sync_names, unsynced)
        except OSError as exc:
            # The system may have dropped what it could not write, and a second try would succeed all the same.
            if not says_busy(exc):
                self._journal.failed = exc
            raise

    def _adopt(self, writer: CheckpointWriter, begun: Begun, packed: list[tuple[Plan, Home]]) -> None:
        """The checkpoint is in force."""
        layout = self._layout
        garbage = [layout.journal(number) for number in range(self._first_journal, begun.journal)]
        self._first_journal = begun.journal
        if begun.base == writer.number:
            garbage += [layout.checkpoint(number) for number in self._sizes]
            self._sizes.clear()
        self._sizes[writer.number] = writer.size
        self._unreadable.clear()
        for plan, home in packed:
            if plan.record.home is plan.home:
                self._index.settle(plan.record, home)
        garbage += [layout.stream(id) for id in begun.changed.gone]
        self._garbage += garbage

    def _unlink(self, paths: Sequence[str]) -> bool:
        """In a thread: whether that was allowed."""
        with deletions_allowed(self._layout) as allowed:
            for path in paths if allowed else ():
                try:
                    self._disk.unlink(path)
                except OSError:
                    log.exception("%s is not needed any more and cannot be removed", path)
            return allowed


def _much_first(records: Iterable[Record]) -> list[Record]:
    """Until a stream's turn has come its payload can only grow in memory, so those that write much come first."""
    much: list[Record] = []
    little: list[Record] = []
    for record in records:
        (much if record.tail is not None and len(record.tail) > MUCH_BYTES else little).append(record)
    return much + little
