"""Moving the payload of streams that write much from memory to their files, between two checkpoints.

Nothing is synced here: the journal holds it too, until a checkpoint has synced it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from durable_streams.eventloop.threads import run_here
from durable_streams.storage.files.index import STREAM_FILE, Index, Location, Record
from durable_streams.storage.files.segments import StreamFiles

log = logging.getLogger("durable_streams.storage")


class Flushing:
    """Keeps the payload of one stream in memory below ``limit`` bytes."""

    def __init__(self, index: Index, stream_files: StreamFiles, limit: int) -> None:
        self._index = index
        self._stream_files = stream_files
        self._limit = limit

    def flush_recovered(self, records: Sequence[Record]) -> None:
        """The same while a journal is replayed, when nobody waits."""
        self.flush(records, {}, run_here)

    def flush(self, touched: Sequence[Record], pending: dict[Record, None], run: Callable[..., Any]) -> None:
        """Move what is too much of the streams just ``touched``, unless a checkpoint is about to move it.

        ``pending``: the streams of that checkpoint. ``run`` makes the calls to the disk; when they fail, payload stays
        in memory.
        """
        records = [record for record in touched if self._is_too_much(record) and record not in pending]
        if not records:
            return
        locations = [record.location for record in records]
        additions = []
        for record, location in zip(records, locations, strict=True):
            written = location.written - record.state.config.forked_at
            additions.append((record.id, bytes(record.unflushed or b""), written, location.checksum))
            self._index.dirty.unsynced.add(record.id)
        try:
            checksums = run(self._stream_files.add_all, additions)
        except OSError as exc:
            log.warning("payload of %d streams stays in memory: %s", len(records), exc)
            return
        for record, location, addition, checksum in zip(
            records, locations, additions, checksums, strict=True
        ):
            # Meanwhile a checkpoint may have been finished that has given the payload another location.
            if record.location is location:
                written = location.written + len(addition[1])
                self._index.settle(record, Location(STREAM_FILE, 0, checksum, written))

    def _is_too_much(self, record: Record) -> bool:
        held = record.unflushed
        return held is not None and len(held) >= self._limit and record.location.checkpoint <= STREAM_FILE
