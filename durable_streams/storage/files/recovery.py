"""Recovery: from the files that a crash, or a stop, left to an index in memory and a journal to continue.

Opening an already recovered directory changes nothing. What cannot be explained by a crash is refused, not guessed at.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from sys import intern
from typing import Any, NamedTuple

from durable_streams.protocol.state import StreamState
from durable_streams.storage.files.checkpoints import (
    CheckpointFile,
    Checkpoints,
    find_checkpoints,
    read_blocks,
)
from durable_streams.storage.files.index import NOWHERE, STREAM_FILE, Index, Location, Record
from durable_streams.storage.files.journal import End, JournalBatch, JournalFile, JournalScan, create_file
from durable_streams.storage.files.layout import Layout, deletions_allowed, numbered
from durable_streams.storage.files.records import (
    BEGINS,
    GOES,
    MOVES,
    DecodeError,
    Row,
    decode_values,
    moved_state,
)
from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import Disk, sync_file
from durable_streams.storage.rows import from_row

log = logging.getLogger("durable_streams.storage")


class Loaded(NamedTuple):
    """What a directory holds; ``end`` is None when it is so new that it has no journal yet."""

    records: dict[int, Record]
    checkpoints: Checkpoints
    journals: list[int]
    end: End | None


class Recovered(NamedTuple):
    """Where the journal goes on, the checkpoints in force, and the files that are not needed any more."""

    journal: JournalFile
    seq: int
    first_journal: int
    checkpoints: list[CheckpointFile]
    garbage: list[str]


def recover(
    disk: Disk, layout: Layout, index: Index, on_changed: Callable[[list[Record]], None]
) -> Recovered:
    """Fill ``index`` and make the directory ready for writing; raises DirectoryDamaged.

    ``on_changed`` is told, batch by batch, which records have changed, so that it can move payload out of memory.
    """
    loaded = load(disk, layout, index, on_changed)
    # As in `prepare`: names that a killed server made, and did not sync, are relied on from now on.
    for folder in (layout.checkpoints, layout.journals):
        disk.sync_dir(folder)
    footer = loaded.checkpoints.footer
    covered = [n for n in numbered(disk.names(layout.journals), ".log") if n < footer.journal]
    garbage = [*loaded.checkpoints.unused, *map(layout.journal, covered)]
    if loaded.end is None:
        journal, seq = create_file(disk, layout, 1), 0
    else:
        journal, seq = _go_on(disk, layout, loaded.journals, loaded.end), loaded.end.seq
    return Recovered(journal, seq, footer.journal, loaded.checkpoints.files, garbage)


def load(disk: Disk, layout: Layout, index: Index, on_changed: Callable[[list[Record]], None]) -> Loaded:
    """Fill ``index`` from a directory, without changing it."""
    with _no_collection():
        checkpoints = find_checkpoints(disk, layout)
        by_id = load_records(disk, checkpoints.files)
        index.restore(by_id.values())
        footer = checkpoints.footer
        index.next_id = footer.next_id
        if not checkpoints.files and not disk.names(layout.journals):
            _check_no_streams(disk, layout)
            return Loaded(by_id, checkpoints, [], None)
        with closing(JournalScan(disk, layout, footer.journal, footer.seq)) as scan:
            for batch in scan.batches():
                on_changed(apply_batch(index, by_id, batch))
            return Loaded(by_id, checkpoints, scan.numbers, scan.end())


@contextmanager
def _no_collection() -> Iterator[None]:
    """Many objects come to be and none goes, so looking for cycles again and again would be most of the work."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def load_records(disk: Disk, files: list[CheckpointFile]) -> dict[int, Record]:
    """What the checkpoints hold, by the streams' numbers."""
    records: dict[int, Record] = {}
    for file in files:
        for block in read_blocks(disk, file):
            for row in block.rows:
                if row.state is None:
                    records.pop(row.id, None)
                else:
                    records[row.id] = _record(row, _state(row.state), file.footer.number)
    return records


def _state(row: Sequence[Any]) -> StreamState:
    """Content types are few and streams are many, so they share them."""
    return from_row((*row[:3], intern(row[3]), *row[4:]))


def _record(row: Row, state: StreamState, checkpoint: int) -> Record:
    if row.location < 0:
        location = Location(NOWHERE, 0, 0, state.tail)
    elif row.location == 0:
        location = Location(STREAM_FILE, 0, row.checksum, state.tail)
    else:
        location = Location(checkpoint, row.location, row.checksum, state.tail)
    return Record(row.id, state, location)


def apply_batch(index: Index, by_id: dict[int, Record], batch: JournalBatch) -> list[Record]:
    """Apply the batch to ``index``; returns the records that it touched."""
    payload_at = 0
    touched: list[Record] = []
    try:
        for change in decode_values(batch.changes):
            kind, id = change[0], change[1]
            if kind == GOES:
                index.remove(by_id.pop(id))
                continue
            length = change[4] if kind == MOVES else change[3]
            payload = [bytes(batch.payload[payload_at : payload_at + length])] if length else []
            payload_at += length
            touched.append(_apply(index, by_id, change, payload))
    except (DecodeError, LookupError, TypeError, ValueError) as exc:
        raise DirectoryDamaged(
            batch.path, batch.at, f"batch {batch.seq} does not fit what was before: {exc!r}"
        ) from exc
    return touched


def _apply(index: Index, by_id: dict[int, Record], change: list[Any], payload: list[bytes]) -> Record:
    id = change[1]
    record = by_id.get(id)
    if record is None:
        state = _state(change[2]) if change[0] == BEGINS else None
        if state is None:
            raise LookupError(f"there is no stream {id}")
        record = by_id[id] = index.begin(id, state, payload)
        held = state.config.forked_at
    else:
        held = record.state.tail
        state = _state(change[2]) if change[0] == BEGINS else moved_state(record.state, change)
        index.move(record, state, payload)
    if held + sum(map(len, payload)) != state.tail:
        raise ValueError(f"stream {id} would have a hole")
    return record


def _check_no_streams(disk: Disk, layout: Layout) -> None:
    for folder in disk.names(layout.streams):
        if disk.names(f"{layout.streams}/{folder}"):
            raise DirectoryDamaged(
                layout.journals, 0, "there are files of streams, and neither journal nor checkpoint"
            )


def _cut_end(disk: Disk, layout: Layout, numbers: list[int], end: End) -> None:
    """Remove what is behind the end of the journal, durably, before anything is written there."""
    log.warning(
        "%s ends at byte %d, after batch %d: cut off %d bytes that were being written when the server stopped",
        layout.journal(end.number),
        end.position,
        end.seq,
        end.torn_bytes,
    )
    for number in reversed([number for number in numbers if number > end.number]):
        disk.unlink(layout.journal(number))
    disk.sync_dir(layout.journals)


def _go_on(disk: Disk, layout: Layout, numbers: list[int], end: End) -> JournalFile:
    """The journal to write to, cut. What has been read from it is made durable: clients will be served from it."""
    if end.torn_bytes:
        _cut_end(disk, layout, numbers, end)
    if end.header is None:
        return create_file(disk, layout, end.number)
    for number in numbers:
        if number < end.number:
            sync_file(disk, layout.journal(number))
    fd = disk.open(layout.journal(end.number), write=True)
    try:
        if disk.size(fd) > end.position:
            disk.truncate(fd, end.position)
        disk.sync(fd)
    except BaseException:
        disk.close(fd)
        raise
    return JournalFile(fd, end.header, end.position)


def remove_orphans(disk: Disk, layout: Layout, live: set[int], next_id: int) -> None:
    """Remove stream files that belong to no stream; only opening can tell, and it leaves them to a thread.

    Those of ``next_id`` and above have been made since. Where a reader of the directory holds deletions, the next
    opening comes to it.
    """
    with deletions_allowed(layout) as allowed:
        for folder in disk.names(layout.streams) if allowed else ():
            for name in disk.names(os.path.join(layout.streams, folder)):
                number = _number(name, next_id)
                if number < next_id and number not in live:
                    disk.unlink(os.path.join(layout.streams, folder, name))


def _number(name: str, next_id: int) -> int:
    """The stream whose file ``name`` is; ``next_id`` and more stand for what must not be touched."""
    try:
        return int(name, 16)
    except ValueError:
        return next_id
