"""Giving back the room of replaced records: the newest ones are copied to a file that takes the old one's place.

Copying is done in a thread that takes no lock of ZODB; commits wait only while the last few transactions are copied and
made durable, and readers only while the names are exchanged. docs/storage-acid.md, "Packing", has the steps.
"""

from __future__ import annotations

import os
from contextlib import suppress
from io import BufferedRandom
from typing import Any, Final

from ZODB.FileStorage.FileStorage import RedundantPackWarning
from ZODB.FileStorage.fspack import FileStoragePacker, PackCopier
from ZODB.serialize import referencesf
from ZODB.utils import p64, z64

from durable_streams.eventloop.threads import Threads
from durable_streams.storage.on_disk.disk import Disk
from durable_streams.storage.zodb.committing import EarlyFS
from durable_streams.storage.zodb.disk_file import DiskFile

REST_BYTES: Final = 1 << 20
"""Less than this is left to be copied while commits wait."""
ROUNDS_MAX: Final = 20
"""... unless they come faster than they can be copied."""


class PackStopped(Exception):
    """The storage is about to be closed."""


class _NoLock:
    def acquire(self) -> None:
        pass

    release = acquire


class Copying(FileStoragePacker):  # type: ignore[misc]
    """FileStorage's own packer, cut into steps, none of which takes a lock; one thread at a time."""

    _file: Any

    def __init__(self, storage: EarlyFS, disk: Disk, *, gc: bool) -> None:
        """Packs what is durable now; ``gc``: drop also what nothing refers to, which has to be found first."""
        super().__init__(storage, referencesf, storage.lastTransaction(), gc)
        self.stopping = False
        self.path: str = self._name + ".pack"
        self._disk = disk
        self._commit_lock = _NoLock()
        self._index_now = storage._index.__getstate__()

    def copy_old(self) -> bool:
        """Copy what is current; whether that makes the file smaller."""
        try:
            self._find_current()
        except RedundantPackWarning:
            return False
        self._tfile = BufferedRandom(DiskFile(self._disk, self.path, write=True))
        self._tfile.truncate(0)
        self._file.seek(0)
        self._tfile.write(self._file.read(self._metadata_size))
        self._copier = PackCopier(self._tfile, self.index, self.tindex)
        self._copy_current()
        self.copied = self.file_end
        copied_to = self._tfile.tell()
        self._sync()
        return bool(copied_to < self.copied)

    def _find_current(self) -> None:
        if self.gc.gc:
            self.gc.findReachable()
        else:
            self.gc.reachable.__setstate__(self._index_now)

    def _copy_current(self) -> None:
        """Nothing else is looked at, unlike in ``copyToPacktime``: the garbage between may be many times as long."""
        copied_from = started = 0
        for position in sorted(self.gc.reachable.values()):
            self._stop_if_wanted()
            header = self._read_data_header(position)
            if not self.gc.isReachable(header.oid, position):
                self.fail(position, "the index has another object here")
            if not header.plen:
                continue
            data = self._file.read(header.plen)
            if header.tloc != copied_from:
                self._end_transaction(started)
                copied_from, started = header.tloc, self._begin_transaction(header.tloc)
            self.writePackedDataRecord(header, data, started)
        self._end_transaction(started)

    def _begin_transaction(self, position: int) -> int:
        """Copy the header of the transaction at ``position``, and return where to."""
        header = self._read_txn_header(position)
        header.status = "p"
        started: int = self._tfile.tell()
        self._tfile.write(header.asString())
        return started

    def _end_transaction(self, started: int) -> None:
        """Only now its length is known."""
        if started:
            end = self._tfile.tell()
            length = p64(end - started)
            self._tfile.seek(started + len(z64))
            self._tfile.write(length)
            self._tfile.seek(end)
            self._tfile.write(length)

    def _stop_if_wanted(self) -> None:
        if self.stopping:
            raise PackStopped

    def copy_new(self, end: int) -> None:
        """Copy the transactions that came since, up to position ``end``."""
        # What has been read ahead may be of a transaction that was not finished then.
        self._file.close()
        self._file = open(self._path, "rb")  # noqa: SIM115
        while self.copied < end:
            self._stop_if_wanted()
            self.copied = self.copyOne(self.copied)
        self._sync()

    def _sync(self) -> None:
        self._tfile.flush()
        self._disk.sync(self._tfile.fileno())

    def drop(self) -> None:
        """The new file is not wanted after all. Where there was no room for it, closing it fails as writing did."""
        try:
            self.close()
        finally:
            self._disk.unlink(self.path)


def pack(storage: EarlyFS, disk: Disk, threads: Threads, copying: Copying) -> bool:
    """Replace the file of ``storage`` by what ``copying``, just made, makes of it; whether that was any smaller.

    Raises OSError when it could not be done; then everything is as it was, unless ``storage.failed`` says otherwise.
    """
    garbage = storage.garbage_bytes
    try:
        if not threads.run(copying.copy_old):
            return False
        for _ in range(ROUNDS_MAX):
            if storage.getSize() - copying.copied <= REST_BYTES:
                break
            threads.run(copying.copy_new, storage.getSize())
        with storage.commits_held():
            threads.run(copying.copy_new, storage.getSize())
            size = os.path.getsize(copying.path)
            storage.adopt(copying.path, copying.index, size, garbage)
            threads.run(storage.sync_names)
        return True
    finally:
        with suppress(OSError):
            copying.drop()
