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

from durable_streams.backends.disk import Disk
from durable_streams.backends.threads import Threads
from durable_streams.backends.zodb.committing import EarlyFS
from durable_streams.backends.zodb.disk_file import DiskFile

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
        self._check = self.gc.checkTxn
        self.gc.checkTxn = self._check_and_stop

    def _check_and_stop(self, *arguments: Any) -> None:
        self._stop_if_wanted()
        self._check(*arguments)

    def _stop_if_wanted(self) -> None:
        if self.stopping:
            raise PackStopped

    def copyDataRecords(self, pos: int, th: Any) -> Any:  # noqa: N802
        self._stop_if_wanted()
        return super().copyDataRecords(pos, th)

    def copy_old(self) -> bool:
        """Copy what is current; whether that makes the file smaller."""
        try:
            self.gc.findReachable()
        except RedundantPackWarning:
            return False
        self._tfile = BufferedRandom(DiskFile(self._disk, self.path, write=True))
        self._tfile.truncate(0)
        self._file.seek(0)
        self._tfile.write(self._file.read(self._metadata_size))
        self._copier = PackCopier(self._tfile, self.index, self.tindex)
        self.copied, copied_to = self.copyToPacktime()
        self._sync()
        return bool(copied_to < self.copied)

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
        """The new file is not wanted after all."""
        self.close()
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
