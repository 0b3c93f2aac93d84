"""FileStorage: the ``file-fast`` and ``file-durable`` modes.

Puts journal, index, stream files and checkpoints together: a commit is one batch in the journal and then a change of
the index; everything else happens behind it (background.py). docs/storage-files.md describes the directory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from durable_streams.eventloop.threads import Threads
from durable_streams.protocol.errors import StorageFull, StreamDamaged, StreamNotFound, Unavailable
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import (
    NOTHING_LOST,
    Change,
    Lost,
    Unit,
    check_recorded,
)
from durable_streams.storage.files.background import FileBackground
from durable_streams.storage.files.checkpointing import Checkpointing
from durable_streams.storage.files.flushing import Flushing
from durable_streams.storage.files.index import Index, Record
from durable_streams.storage.files.journal import Journal
from durable_streams.storage.files.layout import Layout, prepare
from durable_streams.storage.files.reading import PayloadReader
from durable_streams.storage.files.records import change_begins, change_goes, change_moves
from durable_streams.storage.files.recovery import Recovered, recover
from durable_streams.storage.files.segments import BytesDamaged, StreamFiles
from durable_streams.storage.files.tuning import FileTuning
from durable_streams.storage.on_disk.directory import own
from durable_streams.storage.on_disk.disk import Disk, says_busy
from durable_streams.storage.on_disk.room import Room, RoomLimits
from durable_streams.storage.on_disk.storage import DiskStorage

log = logging.getLogger("durable_streams.storage")

Step = tuple[Record | None, int, Change]


class FileStorage(DiskStorage):
    """Streams in one directory, owned by one process."""

    def __init__(
        self,
        data_dir: Path | str,
        durable: bool,
        *,
        disk: Disk | None = None,
        tuning: FileTuning | None = None,
        room: RoomLimits | None = None,
    ) -> None:
        """``durable``: whether a commit waits for the disk; nothing is touched before ``open``."""
        disk = disk or Disk()
        super().__init__(disk, Room(disk, str(data_dir), room or RoomLimits()))
        self.commits_inline = not durable
        self._tuning = tuning or FileTuning()
        self._layout = Layout(data_dir)
        self._index = Index()

    # -- opening and closing -------------------------------------------------------------------------------------

    def _open(self, resources: ExitStack) -> None:
        prepare(self._layout, self._disk)
        resources.callback(os.close, own(self._layout.data_dir, self._layout.lock))
        self._index = Index()
        stream_files = StreamFiles(self._disk, self._layout)
        self._flushing = Flushing(self._index, stream_files, self._tuning.stream_unflushed_bytes)
        self._room.open()
        recovered = recover(self._disk, self._layout, self._index, self._flushing.flush_recovered)
        self._start(recovered, stream_files, resources)

    def _start(self, recovered: Recovered, stream_files: StreamFiles, resources: ExitStack) -> None:
        disk, layout, tuning = self._disk, self._layout, self._tuning
        is_durable = not self.commits_inline
        self._journal = Journal(
            disk, recovered.journal, recovered.seq, synced=recovered.seq, durable=is_durable
        )
        self._reader = PayloadReader(disk, layout, tuning.files_kept_open, tuning.reading_threads)
        self._committing = Threads(1, beside_loop=is_durable)
        behind = Threads(1)
        for resource in (self._committing, self._reader, behind, self._journal):
            resources.callback(resource.close)
        checkpointing = Checkpointing(
            disk,
            layout,
            self._index,
            self._journal,
            stream_files,
            self._reader.files,
            behind,
            tuning,
            recovered,
        )
        self._background = FileBackground(
            layout.root, self._index, self._journal, checkpointing, behind, tuning, self._room
        )

    def _stop(self) -> None:
        """Checkpoint what there is, so that the next opening has nothing to replay."""
        self._background.stop()

    def checkpoint(self) -> None:
        """Move everything from the journal to where it stays, now; raises OSError when that fails."""
        self._background.checkpoint()

    def compact(self) -> None:
        """Put one checkpoint in the place of the journals, and of as many older ones as the tuning does not allow."""
        self.checkpoint()

    @property
    def failed(self) -> bool:
        """Whether it is unknown what the disk holds, so that nothing is written any more until it is opened anew."""
        return self._resources is not None and self._journal.failed is not None

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
        split = record.location.written
        if start >= split:
            return (
                b""
                if record.unflushed is None
                else bytes(memoryview(record.unflushed)[start - split : stop - split])
            )
        # Taken before anything can switch: a checkpoint may move it.
        rest = (
            bytes(memoryview(record.unflushed)[: stop - split]) if stop > split and record.unflushed else b""
        )
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

    def figures(self) -> Mapping[str, float]:
        return {
            "streams": len(self._index.streams),
            "journal_bytes": self._journal.length,
            "unflushed_bytes": self._index.unflushed_bytes,
            "compactions": self._background.checkpointing.checkpoints,
            "background_failures": self._background.failures,
        }

    # -- changing ------------------------------------------------------------------------------------------------

    def commit(self, shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]) -> Lost:
        """All units are one batch of the journal. Raises StorageFull or Unavailable when nothing was kept."""
        if self._resources is None:
            raise Unavailable("the storage is not open")
        changes = list(chain.from_iterable(units))
        with self._background.turn:
            steps, journaled, payload = self._prepare(changes)
            if any(payload):
                self._check_unflushed()
            self._room.commit(changes, lambda: self._committing.run(self._journal.append, journaled, payload))
            touched = [record for step in steps if (record := self._apply(step)) is not None]
            self._flushing.flush(touched, self._background.checkpointing.pending, self._committing.run)
        self._background.note_commit()
        return NOTHING_LOST

    def _check_unflushed(self) -> None:
        if self._index.unflushed_bytes > self._tuning.unflushed_bytes_max:
            if self._background.is_full:
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
                journaled.append(change_moves(record.id, record.state, after, length, change.entries))
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


def _is_another(record: Record, after: StreamState) -> bool:
    return record.state.config.uid != after.config.uid


def _check_length(change: Change, start: int, stop: int) -> int:
    length = sum(map(len, change.appended))
    if start + length != stop:
        raise ValueError(f"a change of {change.name!r} has {length} bytes for positions {start} to {stop}")
    return length
