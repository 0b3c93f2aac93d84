"""Freeing the space of replaced records: the newest ones are copied to a file that takes the old one's place.

Copying is done in a thread that takes no lock of ZODB; commits wait only while the last few transactions are copied and
made durable, and readers only while the names are exchanged. docs/storage-acid.md, "Packing", has the steps.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Final

from ZODB.fsIndex import fsIndex
from ZODB.serialize import referencesf
from ZODB.utils import z64

from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import Disk, Part
from durable_streams.storage.zodb.file_storage import ShardFileStorage, SharedByShards
from durable_streams.storage.zodb.records import (
    FIRST_READ_BYTES,
    MAGIC,
    PACKED,
    TransactionWriter,
    read_record,
)
from durable_streams.storage.zodb.shard_file import ShardFile

REST_BYTES: Final = 1 << 20
"""Less than this is left to be copied while commits wait."""
ROUNDS_MAX: Final = 20
"""... unless they come faster than they can be copied."""
WRITTEN_AT_ONCE: Final = 1 << 20
"""Bytes."""
WORTH_SHARE: Final = 7 / 8
"""On a full disk, a file of which more is needed is not worth a pack."""
OVERHEAD_BYTES: Final = 80
"""Of a record that is alone in its transaction."""
_NO_TEXTS: Final = (b"", b"", b"")


class PackStopped(Exception):
    """The storage is about to be closed."""


class PackedFile:
    """The new file, which transactions are added to; ``index`` is where its newest records are."""

    def __init__(self, path: str, salt: bytes, disk: Disk) -> None:
        self.path = path
        self.index = fsIndex()
        self.size = len(MAGIC)
        self._salt = salt
        self._disk = disk
        self._fd = disk.open(path, write=True)
        disk.truncate(self._fd, 0)
        self._waiting: list[Part] = [MAGIC]
        self._written = 0

    def begin(self, tid: bytes) -> TransactionWriter:
        return TransactionWriter(self._salt, tid, self.size, _NO_TEXTS)

    def add(self, transaction: TransactionWriter, status: bytes) -> None:
        self._waiting += transaction.parts(status)
        self.index.update(transaction.positions)
        self.size = transaction.end
        if self.size - self._written >= WRITTEN_AT_ONCE:
            self._write()

    def sync(self) -> None:
        """Make all that was added durable."""
        self._write()
        self._disk.sync(self._fd)

    def _write(self) -> None:
        self._disk.write(self._fd, self._waiting, self._written)
        self._waiting = []
        self._written = self.size

    def close(self) -> None:
        self._disk.close(self._fd)


class Packing:
    """One pack, cut into steps, none of which takes a lock; one thread at a time."""

    def __init__(
        self, storage: ShardFileStorage, disk: Disk, *, gc: bool, free_bytes: int | None = None
    ) -> None:
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
        self._disk = disk
        self.new = PackedFile(storage.getName() + ".pack", storage.salt, disk)
        self._old = ShardFile(storage.getName(), storage.salt, disk)

    def copy_current(self) -> bool:
        """Copy what is current; whether that makes the file smaller. Raises OSError when there is no room for it."""
        index, needed = self._reachable() if self._gc else (self._index, 0)
        if self._free_bytes is not None and not self._is_worth_it(needed, self._free_bytes):
            return False
        writer: TransactionWriter | None = None
        copied_from = 0
        for position in sorted(index.values()):
            self._stop_if_wanted()
            record = read_record(self._old, position, self.copied)
            if index.get(record.oid) != position:
                raise DirectoryDamaged(self._old.path, position, "the index has another object here")
            if not record.length:
                continue
            if writer is None or record.transaction != copied_from:
                self._add(writer)
                writer, copied_from = self.new.begin(record.tid), record.transaction
            writer.add(record.oid, 0, record.data)
        self._add(writer)
        self.new.sync()
        return self.new.size < self.copied

    def _add(self, writer: TransactionWriter | None) -> None:
        if writer is not None:
            self.new.add(writer, PACKED)

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
            writer = self.new.begin(transaction.tid)
            for _, record in self._old.records(transaction):
                data = record.data if record.length else None
                writer.add(record.oid, self.new.index.get(record.oid, 0), data)
            self.new.add(writer, transaction.status)
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


def pack(storage: ShardFileStorage, shared: SharedByShards, packing: Packing) -> bool:
    """Replace the file of ``storage`` by what ``packing``, just made, makes of it; whether that was any smaller.

    Raises DirectoryDamaged or OSError when it could not be done; then everything is as it was, unless
    ``storage.failed`` says otherwise.
    """
    garbage, run = storage.garbage.bytes, shared.background.run
    try:
        if not run(packing.copy_current):
            return False
        for _ in range(ROUNDS_MAX):
            if storage.getSize() - packing.copied <= REST_BYTES:
                break
            run(packing.copy_new, storage.getSize())
        with storage.commits_held():
            run(packing.copy_new, storage.getSize())
            storage.adopt(packing.new.path, packing.new.index, packing.new.size, garbage)
        return True
    finally:
        with suppress(OSError):
            packing.close()
