"""FileStorage: the ``file-fast`` and ``file-durable`` modes.

Puts journal, index, own files and checkpoints together: a commit is one batch in the journal and then a change of the
index; everything else happens behind it, in one greenlet that keeps the directory small. docs/storage-files.md
describes the directory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from durable_streams.eventloop.threads import Threads, run_here
from durable_streams.protocol.errors import StorageFull, StreamDamaged, StreamNotFound, Unavailable
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import (
    NOTHING_LOST,
    Change,
    Lost,
    Storage,
    Unit,
    check_recorded,
)
from durable_streams.storage.files.checkpointing import Begun, Checkpointing
from durable_streams.storage.files.index import OWN_FILE, Home, Index, Record
from durable_streams.storage.files.journal import Journal, JournalFile, create_file
from durable_streams.storage.files.layout import Layout, prepare
from durable_streams.storage.files.reading import PayloadReader
from durable_streams.storage.files.records import (
    JOURNAL_HEADER_BYTES,
    change_begins,
    change_goes,
    change_moves,
)
from durable_streams.storage.files.recovery import Recovered, recover, remove_orphans
from durable_streams.storage.files.segments import BytesDamaged, OwnFiles
from durable_streams.storage.files.tuning import Tuning
from durable_streams.storage.on_disk.directory import own
from durable_streams.storage.on_disk.disk import Disk, says_busy, says_full

log = logging.getLogger("durable_streams.storage")

Step = tuple[Record | None, int, Change]


class FileStorage(Storage):
    """Streams in one directory, owned by one process."""

    def __init__(
        self, data_dir: Path, durable: bool, *, disk: Disk | None = None, tuning: Tuning | None = None
    ) -> None:
        """``durable``: whether a commit waits for the disk; nothing is touched before ``open``."""
        self.commits_inline = not durable
        self._durable = durable
        self._disk = disk or Disk()
        self._tuning = tuning or Tuning()
        self._layout = Layout(data_dir)
        self._own_files = OwnFiles(self._disk, self._layout)
        self._index = Index()
        self._is_open = False

    # -- opening and closing -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Raises DirectoryInUse, WrongLayout, DirectoryDamaged, or any other OSError."""
        if self._is_open:
            return
        prepare(self._layout, self._disk)
        self._lock_fd = own(self._layout.data_dir, self._layout.lock)
        try:
            index = Index()
            self._index = index
            recovered = recover(self._disk, self._layout, index, self._recovered_some)
            self._start(recovered)
        except BaseException:
            os.close(self._lock_fd)
            raise

    def _recovered_some(self, records: list[Record]) -> None:
        self._move_payload(self._with_much_payload(records, {}), run_here)

    def _start(self, recovered: Recovered) -> None:
        tuning = self._tuning
        self._journal = Journal(
            self._disk, recovered.journal, recovered.seq, synced=recovered.seq, durable=self._durable
        )
        self._reader = PayloadReader(self._disk, self._layout, tuning.files_kept_open, tuning.reading_threads)
        self._behind = Threads(1)
        self._committing = Threads(1)
        self._run: Callable[..., Any] = self._committing.run if self._durable else run_here
        self._checkpointing = Checkpointing(
            self._disk,
            self._layout,
            self._index,
            self._journal,
            self._own_files,
            self._reader.files,
            self._behind,
            tuning,
            recovered,
        )
        self._turn = BoundedSemaphore(1)
        """Held while a batch is committed, and while a checkpoint begins."""
        self._maintenance = BoundedSemaphore(1)
        self._wake = Event()
        self._checkpoint_at = monotonic() + tuning.checkpoint_age_s
        self._not_before = 0.0
        self._is_full = False
        self._is_open = True
        self._keeper = gevent.spawn(self._keep_up)

    def close(self) -> None:
        """Checkpoint what there is, so that the next opening has nothing to replay."""
        if not self._is_open:
            return
        self._is_open = False
        self._wake.set()
        self._keeper.join()
        with self._turn, self._maintenance:
            pass
        try:
            if self._journal.failed is None:
                self._leave()
        finally:
            self._journal.close()
            for threads in (self._behind, self._committing, self._reader):
                threads.close()
            os.close(self._lock_fd)

    def _leave(self) -> None:
        try:
            self._sync_journal()
            if self._index.changed:
                self.checkpoint()
        except (OSError, StorageFull, Unavailable):
            log.exception("the last checkpoint could not be made; the next opening will replay the journal")

    @property
    def failed(self) -> bool:
        """Whether it is unknown what the disk holds, so that nothing is written any more until it is opened anew."""
        return self._is_open and self._journal.failed is not None

    # -- looking -------------------------------------------------------------------------------------------------

    def known(self, name: str) -> StreamState | None:
        return self._index.known(name)

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        return self._index.names(prefix, after, limit)

    def due(self, now: float, limit: int) -> list[str]:
        return self._index.due(now, limit)

    def read(self, state: StreamState, start: int, stop: int) -> bytes:
        record = self._index.find(state)
        if record is None:
            raise StreamNotFound(state.name)
        split = record.home.written
        if start >= split:
            return (
                b"" if record.tail is None else bytes(memoryview(record.tail)[start - split : stop - split])
            )
        # Taken before anything can switch: a checkpoint may move it.
        rest = bytes(memoryview(record.tail)[: stop - split]) if stop > split and record.tail else b""
        stored = self._read_stored(record, state, start, min(stop, split))
        return stored + rest if rest else stored

    def _read_stored(self, record: Record, state: StreamState, start: int, stop: int) -> bytes:
        try:
            return self._reader.read(record, start, stop)
        except (BytesDamaged, OSError) as exc:
            if isinstance(exc, FileNotFoundError) and self._index.find(state) is not record:
                raise StreamNotFound(state.name) from exc
            if isinstance(exc, OSError) and says_busy(exc):
                raise Unavailable(f"stream {state.name!r} cannot be read now: {exc}") from exc
            log.exception("stream %r cannot be read from position %d to %d", state.name, start, stop)
            raise StreamDamaged(f"stream {state.name!r}: {exc}") from exc

    # -- changing ------------------------------------------------------------------------------------------------

    def commit(self, shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]) -> Lost:
        """All units are one batch of the journal. Raises StorageFull or Unavailable when nothing was kept."""
        with self._turn:
            self._check_room()
            steps, journaled, payload = self._prepare(chain.from_iterable(units))
            self._run(self._journal.append, journaled, payload)
            touched = [record for step in steps if (record := self._apply(step)) is not None]
            much = self._with_much_payload(touched, self._checkpointing.pending)
            if much:
                self._move_payload(much, self._run)
        if self._wants_checkpoint() and not self._wake.is_set():
            self._wake.set()
        return NOTHING_LOST

    def _check_room(self) -> None:
        if not self._is_open:
            raise Unavailable("the storage is not open")
        if self._index.tail_bytes > self._tuning.tail_bytes_max:
            if self._is_full:
                raise StorageFull(
                    "payload waits in memory, because there is no room to write it to its files"
                )
            raise Unavailable("payload is written to its files more slowly than it comes")

    def _prepare(self, changes: Iterable[Change]) -> tuple[list[Step], list[Sequence[Any]], list[bytes]]:
        """What is to be done to the index, and what the journal says of it. Changes nothing."""
        steps: list[Step] = []
        journaled: list[Sequence[Any]] = []
        payload: list[bytes] = []
        next_id = self._index.next_id
        for change in changes:
            record = self._index.streams.get(change.name)
            check_recorded(None if record is None else record.state, change)
            after = change.after
            if record is not None and (after is None or _is_another(record, after)):
                journaled.append(change_goes(record.id))
                steps.append((record, 0, change))
                record = None
            elif record is not None and after is not None:
                length = _check_length(change, record.state.tail, after.tail)
                journaled.append(change_moves(record.id, record.state, after, length))
                steps.append((record, 0, change))
            if record is None and after is not None:
                length = _check_length(change, after.config.forked_at, after.tail)
                journaled.append(change_begins(next_id, after, length))
                steps.append((None, next_id, change))
                next_id += 1
            if after is not None:
                payload += change.appended
        return steps, journaled, payload

    def _apply(self, step: Step) -> Record | None:
        """The batch is in the journal; the record that has changed, unless it has gone."""
        record, new_id, change = step
        after = change.after
        if record is None:
            assert after is not None
            return self._index.begin(new_id, after, change.appended)
        if after is None or _is_another(record, after):
            self._index.remove(record)
            return None
        self._index.move(record, after, change.appended)
        return record

    # -- behind the requests ---------------------------------------------------------------------------------------

    def _with_much_payload(self, records: Sequence[Record], pending: dict[Record, None]) -> list[Record]:
        limit = self._tuning.stream_tail_bytes
        return [
            record
            for record in records
            if record.tail is not None
            and len(record.tail) >= limit
            and record.home.checkpoint <= OWN_FILE
            and record not in pending
        ]

    def _move_payload(self, records: Sequence[Record], run: Callable[..., Any]) -> None:
        """Move payload from memory to the streams' own files, not synced: the journal holds it too."""
        homes = [record.home for record in records]
        additions = []
        for record, home in zip(records, homes, strict=True):
            written = home.written - record.state.config.forked_at
            additions.append((record.id, bytes(record.tail or b""), written, home.checksum))
            self._index.changed.unsynced.add(record.id)
        try:
            checksums = run(self._own_files.add_all, additions)
        except OSError as exc:
            log.warning("payload of %d streams stays in memory: %s", len(records), exc)
            return
        for record, home, addition, checksum in zip(records, homes, additions, checksums, strict=True):
            # Meanwhile a checkpoint may have been finished that has given the payload another home.
            if record.home is home:
                self._index.settle(record, Home(OWN_FILE, 0, checksum, home.written + len(addition[1])))

    def _wants_checkpoint(self) -> bool:
        tuning = self._tuning
        return (
            self._journal.length >= tuning.checkpoint_journal_bytes
            or self._index.tail_bytes >= tuning.checkpoint_tail_bytes
        ) and monotonic() >= self._not_before

    def _keep_up(self) -> None:
        """The greenlet that syncs and makes checkpoints; ends when the storage is closed."""
        self._guarded(self._begin_tidy)
        while self._is_open:
            self._wake.wait(self._tuning.sync_interval_s)
            self._wake.clear()
            if self._is_open and self._journal.failed is None:
                self._guarded(self._sync_journal)
                if self._wants_checkpoint() or self._is_aged():
                    self._guarded(self.checkpoint)

    def _is_aged(self) -> bool:
        return bool(self._index.changed) and monotonic() >= max(self._checkpoint_at, self._not_before)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as exc:
            self._not_before = monotonic() + self._tuning.checkpoint_retry_s
            self._is_full = isinstance(exc, OSError) and says_full(exc)
            level = logging.CRITICAL if self._journal.failed else logging.ERROR
            log.log(level, "maintenance of %s has failed: %s", self._layout.root, exc, exc_info=exc)

    def _begin_tidy(self) -> None:
        with self._maintenance:
            self._checkpointing.remove_garbage()
            live = {record.id for record in self._index.streams.values()}
            # Those that the next checkpoint will forget; until then what it replaces must stay whole.
            live.update(self._index.changed.gone)
            self._behind.run(remove_orphans, self._disk, self._layout, live, self._index.next_id)

    def _sync_journal(self) -> None:
        with self._maintenance:
            file, seq = self._journal.written()
            if self._journal.synced < seq and not self._durable:
                self._behind.run(self._journal.sync, file, seq)

    def checkpoint(self) -> None:
        """Move everything from the journal to where it stays, and drop the journal; raises OSError when that fails."""
        with self._maintenance:
            old_file, begun = self._begin_checkpoint()
            succeeded = False
            try:
                self._checkpointing.write(begun)
                self._journal.has_covered(begun.seq)
                succeeded = True
            finally:
                self._checkpointing.end(begun, succeeded)
                if old_file:
                    self._finish_file(old_file, begun.seq)
            self._is_full = False
            self._checkpoint_at = monotonic() + self._tuning.checkpoint_age_s
            self._checkpointing.remove_garbage()

    def _begin_checkpoint(self) -> tuple[JournalFile | None, Begun]:
        """Go on in a new journal file, unless the present one is empty: failing checkpoints must not make ever more."""
        with self._turn:
            if self._journal.length == JOURNAL_HEADER_BYTES:
                return None, self._checkpointing.begin()
        new_file = self._behind.run(create_file, self._disk, self._layout, self._journal.number + 1)
        with self._turn:
            return self._journal.switch(new_file), self._checkpointing.begin()

    def _finish_file(self, file: JournalFile, seq: int) -> None:
        """A file that no checkpoint has covered has to be durable before later ones are called so."""
        try:
            self._behind.run(self._journal.sync, file, seq)
        finally:
            self._journal.close(file)


def _is_another(record: Record, after: StreamState) -> bool:
    return record.state.config.uid != after.config.uid


def _check_length(change: Change, start: int, stop: int) -> int:
    length = sum(map(len, change.appended))
    if start + length != stop:
        raise ValueError(f"a change of {change.name!r} has {length} bytes for positions {start} to {stop}")
    return length
