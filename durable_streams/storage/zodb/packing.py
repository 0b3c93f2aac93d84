"""Freeing the space of replaced records: the newest ones are copied to a file that takes the old one's place.

Copying is done in a thread that takes no lock of ZODB; commits wait only while the last few transactions are copied and
made durable, and readers only while the names are exchanged. docs/storage-acid.md, "Packing", has the steps.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import Final

from ZODB.fsIndex import fsIndex
from ZODB.serialize import referencesf
from ZODB.utils import z64

from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.new_file import NewFile
from durable_streams.storage.zodb.file_storage import ShardFileStorage
from durable_streams.storage.zodb.records import (
    FIRST_READ_BYTES,
    MAGIC,
    PACKED,
    Record,
    TransactionWriter,
    read_record,
)
from durable_streams.storage.zodb.shard_file import ShardFile

REST_BYTES: Final = 1 << 20
"""Less than this is left to be copied while commits wait."""
ROUNDS_MAX: Final = 20
"""... unless they come faster than they can be copied."""
WORTH_SHARE: Final = 7 / 8
"""On a full disk, a file of which more is needed is not worth a pack."""
OVERHEAD_BYTES: Final = 80
"""Of a record that is alone in its transaction."""
_NO_TEXTS: Final = (b"", b"", b"")


class PackStopped(Exception):
    """The storage is about to be closed."""


class Packing:
    """One pack. Its steps take no lock, and run in a thread."""

    def __init__(self, storage: ShardFileStorage, *, gc: bool, free_bytes: int | None = None) -> None:
        """Packs what is durable now.

        ``gc``: drop also what nothing refers to, which has to be found first. ``free_bytes``, with ``gc``: the room
        that there is on a full disk.
        """
        self.stopping = False
        self.copied: int = storage.getSize()
        """Up to where the old file has been copied, or is about to be."""
        self._index = storage.copy_of_index()
        self._gc = gc
        self._free_bytes = free_bytes
        self._storage = storage
        self._disk = disk = storage.shared.disk
        self.new = NewFile(disk, storage.getName() + ".pack")
        self.new.add([MAGIC])
        self.index = fsIndex()
        """Of the new file."""
        self._old = ShardFile(storage.getName(), storage.salt, disk)

    def run(self) -> bool:
        """Replace the file of the storage by what is made of it, and clean up; whether that was any smaller.

        Raises DirectoryDamaged or OSError when it could not be done; then everything is as it was, unless
        ``storage.failed`` says otherwise. Raises PackStopped.
        """
        storage, run = self._storage, self._storage.shared.background.run
        garbage = storage.garbage.bytes
        try:
            if not run(self.copy_current):
                return False
            for _ in range(ROUNDS_MAX):
                if storage.getSize() - self.copied <= REST_BYTES:
                    break
                run(self.copy_new, storage.getSize())
            with storage.commits_held():
                run(self.copy_new, storage.getSize())
                storage.adopt(self.new.path, self.index, self.new.size, garbage)
            return True
        finally:
            with suppress(OSError):
                self.close()

    def copy_current(self) -> bool:
        """Copy what is current; whether that makes the file smaller. Raises OSError when there is no room for it."""
        index, needed = self._reachable() if self._gc else (self._index, 0)
        if self._free_bytes is not None and not self._is_worth_it(needed, self._free_bytes):
            return False
        for (_, tid), records in groupby(self._current(index), attrgetter("transaction", "tid")):
            writer = self._begin(tid)
            for record in records:
                writer.add(record.oid, 0, record.data)
            self._add(writer, PACKED)
        self.new.sync()
        return self.new.size < self.copied

    def _current(self, index: fsIndex) -> Iterator[Record]:
        for position in sorted(index.values()):
            self._stop_if_wanted()
            record = read_record(self._old, position, self.copied)
            if index.get(record.oid) != position:
                raise DirectoryDamaged(self._old.path, position, "the index has another object here")
            if record.length:
                yield record

    def _begin(self, tid: bytes) -> TransactionWriter:
        return TransactionWriter(self._old.salt, tid, self.new.size, _NO_TEXTS)

    def _add(self, writer: TransactionWriter, status: bytes) -> None:
        self.new.add(writer.parts(status))
        self.index.update(writer.positions)

    def _is_worth_it(self, needed: int, free_bytes: int) -> bool:
        if needed > self.copied * WORTH_SHARE:
            return False
        if needed > free_bytes:
            what = f"packing {self._old.path} needs {needed:,} bytes of room, and {free_bytes:,} are free"
            raise OSError(errno.ENOSPC, what)
        return True

    def _reachable(self) -> tuple[fsIndex, int]:
        """The objects that can be reached from the root, and their length; they are read in no order."""
        file = ShardFile(self._old.path, self._old.salt, self._disk, FIRST_READ_BYTES)
        found, waiting, needed = fsIndex(), [z64], 0
        try:
            while waiting:
                oid = waiting.pop()
                position = self._index.get(oid)
                if position is not None and oid not in found:
                    self._stop_if_wanted()
                    found[oid] = position
                    record = read_record(file, position, self.copied)
                    waiting += referencesf(record.data) if record.length else ()
                    needed += len(record.data) + OVERHEAD_BYTES
        finally:
            file.close()
        return found, needed

    def copy_new(self, end: int) -> None:
        """Copy the transactions that came since, up to position ``end``."""
        # What has been read ahead may be of a transaction that was not finished then.
        self._old.refresh()
        while self.copied < end:
            self._stop_if_wanted()
            transaction = self._old.transaction(self.copied)
            writer = self._begin(transaction.tid)
            for _, record in self._old.records(transaction):
                data = record.data if record.length else None
                writer.add(record.oid, self.index.get(record.oid, 0), data)
            self._add(writer, transaction.status)
            self.copied = transaction.end
        self.new.sync()

    def _stop_if_wanted(self) -> None:
        if self.stopping:
            raise PackStopped

    def close(self) -> None:
        """Remove the new file, unless it has another name by now."""
        self._old.close()
        self.new.close()
        self._disk.unlink(self.new.path)
