"""ShardFileStorage, the FileStorage of a shard.

It publishes a transaction after its fsync, holds none of the locks that readers take meanwhile, gives every record a
checksum, and counts what is garbage. The format stays that of ZODB's FileStorage (records.py). It uses private parts of
ZODB 6.4, which tests/acid/test_relied_internals.py guards.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from gevent.thread import LockType
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage.FileStorage import FileStorage
from ZODB.fsIndex import fsIndex
from ZODB.POSException import StorageTransactionError
from ZODB.utils import Lock, newTid, z64

from durable_streams.eventloop.threads import Threads, waiting_is_safe
from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import Disk, Part
from durable_streams.storage.on_disk.open_file import OpenFile
from durable_streams.storage.zodb.contents import Contents, index_path, write_index
from durable_streams.storage.zodb.records import (
    FINISHED,
    STATUS_AT,
    UNFINISHED,
    TransactionWriter,
    load_before,
    record_size,
)

log = logging.getLogger("durable_streams.storage")

COMMITTING_THREADS_MAX: Final = 16
READING_THREADS_MAX: Final = 4
LARGE_BYTES: Final = 256 << 10
"""A transaction larger than this is handed to the system in a thread."""
GROWING_BYTES_MIN: Final = 4096
"""A shorter record is about as long as the one that it replaces; the others are segments that grow, mostly."""
STORED_AT_ONCE: Final = 32
"""After so many objects other greenlets run; only the commit lock is held."""
DELETED_AT_ONCE: Final = 500
"""Deleting takes time too, so the objects of a large stream go with several transactions."""


class Garbage:
    """What nobody needs any more in a shard's file, and what is to be deleted from it."""

    def __init__(self) -> None:
        self.bytes = 0
        """Records that newer ones have replaced, as far as is known."""
        self.replaced = 0
        """... and those that the transaction in progress replaces."""
        self.unneeded: list[bytes] = []
        """Objects to be deleted."""
        self._deleted = 0

    def next_deletions(self) -> Sequence[bytes]:
        """What goes with the transaction in progress."""
        some = self.unneeded[:DELETED_AT_ONCE]
        self._deleted = len(some)
        return some

    def commit(self) -> None:
        self.bytes += self.replaced
        del self.unneeded[: self._deleted]
        self.abort()

    def abort(self) -> None:
        self.replaced = self._deleted = 0


class SharedByShards:
    """Disk, threads, and transaction ids in one order, of all shards; made by the process that opens the storage."""

    def __init__(self, disk: Disk, shard_count: int) -> None:
        """Raises RuntimeError where a greenlet that waits for a lock of ZODB would stop all others."""
        self.disk = disk
        self._last_id: bytes = z64
        # ZODB holds locks of its own while it commits and reads.
        beside_loop = waiting_is_safe()
        if beside_loop and type(Lock()) is not LockType:
            raise RuntimeError(
                "ZODB was imported before gevent patched the threading module; import it afterwards, in the worker"
            )
        self.committing = Threads(min(shard_count, COMMITTING_THREADS_MAX), beside_loop=beside_loop)
        self.reading = Threads(READING_THREADS_MAX, beside_loop=beside_loop)
        self.background = Threads(1, beside_loop=beside_loop)

    def next_id(self) -> bytes:
        """A transaction id that grows over all shards, so that a backup can be taken of one moment."""
        self._last_id = newTid(self._last_id)
        return self._last_id

    def note_id(self, tid: bytes) -> None:
        """``tid`` was given before."""
        self._last_id = max(self._last_id, tid)

    def close(self) -> None:
        for threads in (self.committing, self.reading, self.background):
            threads.close()


class LiveFile(OpenFile):
    """A shard's file while its owner has it open; when packing has put another in its place, this one is retired."""

    __slots__ = ("_shared", "salt")

    def __init__(self, path: str, salt: bytes, shared: SharedByShards) -> None:
        super().__init__(shared.disk, path, write=True)
        self.salt = salt
        self._shared = shared

    def read(self, length: int, position: int) -> Part:
        return self.read_into(memoryview(bytearray(length)), position, self._shared.reading)

    def replaced_size(self, position: int, end: int) -> int:
        """The length of a record that is about to go, which may be damaged: then 0."""
        with suppress(DirectoryDamaged, OSError):
            return record_size(self, position, end)
        return 0


class ShardFileStorage(FileStorage):  # type: ignore[misc]
    """Used by the greenlets of one thread; the calls to the disk alone happen in others."""

    _pos: int
    """Where the durable transactions end."""
    _transaction: Any
    _nextpos: int
    _tfile: Any
    _files: Any
    _ltid: Any
    _ude: Any
    _file: Any

    def __init__(self, path: str, salt: bytes, shared: SharedByShards, known: Contents) -> None:
        """``known``: all of the file, which is durable and ends with a whole transaction."""
        self.failed: BaseException | None = None
        """Why it is unknown what the disk holds; nothing is written any more."""
        self.garbage = Garbage()
        self.indexed_bytes = 0
        """Up to where the saved index knows the file."""
        self.salt = salt
        self.shared = shared
        self._known = known
        self._live = LiveFile(path, salt, shared)
        try:
            super().__init__(path, pack_gc=False, pack_keep_old=False)
            # All reading and writing is done through the descriptor of ours.
            for file in (self._tfile, self._file, self._files):
                file.close()
            os.unlink(path + ".tmp")
        except BaseException:
            _close_files(self)
            raise
        self._tfile = None
        self.garbage.bytes = known.garbage_bytes
        shared.note_id(self._ltid)

    def close(self) -> None:
        super().close()
        self._live.retire()

    # -- reading -----------------------------------------------------------------------------------------------

    def loadBefore(self, oid: bytes, tid: bytes) -> Any:  # noqa: N802
        """The newest revision before ``tid``; every record on the way to it is checked."""
        file = self._live.borrow()
        try:
            return load_before(file, oid, self._index_get(oid, 0), tid, self._pos)
        finally:
            file.give_back()

    # -- writing -----------------------------------------------------------------------------------------------

    def tpc_begin(self, transaction: Any, tid: bytes | None = None, status: str = " ") -> None:
        super().tpc_begin(transaction, tid or self.shared.next_id(), status)
        self._writer = TransactionWriter(self.salt, self._tid, self._pos, self._ude)

    def store(self, oid: bytes, oldserial: bytes, data: bytes, version: str, transaction: Any) -> None:
        """One connection writes, and it begins every transaction with the newest revisions: there are no conflicts."""
        if transaction is not self._transaction:
            raise StorageTransactionError(self, transaction)
        previous = self._index_get(oid, 0)
        size = self._writer.add(oid, previous, data)
        if previous:
            self.garbage.replaced += (
                size if size < GROWING_BYTES_MIN else self._live.replaced_size(previous, self._pos)
            )
        if len(self._writer.positions) % STORED_AT_ONCE == 0:
            self.shared.committing.yield_to_loop()

    def checkCurrentSerialInTransaction(  # noqa: N802
        self, oid: bytes, serial: bytes, transaction: Any
    ) -> None:
        """Nor has a node that a BTree has only read been changed by anybody else."""

    def tpc_vote(self, transaction: Any) -> Any:
        """Write the transaction, marked as unfinished; when that fails nothing of it is kept."""
        if transaction is not self._transaction:
            raise StorageTransactionError(self, transaction)
        self._add_deletions()
        parts, disk, fd = self._writer.parts(UNFINISHED), self.shared.disk, self._live.fd
        self._nextpos = self._writer.end
        if self._nextpos - self._pos > LARGE_BYTES:
            self.shared.committing.run(disk.write, fd, parts, self._pos)
        else:
            disk.write(fd, parts, self._pos)
        return self._resolved

    def _add_deletions(self) -> None:
        for oid in self.garbage.next_deletions():
            previous = self._index_get(oid, 0)
            if previous and oid not in self._writer.positions:
                self.garbage.replaced += self._live.replaced_size(previous, self._pos) + self._writer.add(
                    oid, previous, None
                )

    def tpc_finish(self, transaction: Any, f: Callable[[bytes], None] | None = None) -> bytes:
        """Make it durable, then visible."""
        if transaction is not self._transaction:
            raise StorageTransactionError(self, transaction)
        with self._must_succeed():
            self.shared.committing.run(self._make_durable)
        with self._lock:
            tid: bytes = self._tid
            if f is not None:
                f(tid)
            self._pos = self._nextpos
            self._index.update(self._writer.positions)
            self._ltid = tid
            self._ude = self._transaction = None
            self.garbage.commit()
            self._commit_lock.release()
        return tid

    def _make_durable(self) -> None:
        self.shared.disk.write(self._live.fd, [FINISHED], self._pos + STATUS_AT)
        self.shared.disk.sync(self._live.fd)

    def _abort(self) -> None:
        """Called by ``tpc_abort``."""
        self.garbage.abort()
        if self._nextpos and self.failed is None:
            with self._must_succeed():
                self.shared.disk.truncate(self._live.fd, self._pos)
            self._nextpos = 0

    @contextmanager
    def _must_succeed(self) -> Iterator[None]:
        """When this fails, nobody knows what the disk holds."""
        try:
            yield
        except BaseException as exc:
            self.failed = exc
            raise

    def delete_later(self, oids: Sequence[bytes]) -> None:
        """Objects that no committed object refers to go with the next transactions."""
        self.garbage.unneeded += oids

    def delete_some(self) -> None:
        """A transaction of deletions alone."""
        deleting = TransactionMetaData()
        self.tpc_begin(deleting)
        try:
            self.tpc_vote(deleting)
            self.tpc_finish(deleting)
        except BaseException:
            self.tpc_abort(deleting)
            raise

    # -- maintenance -------------------------------------------------------------------------------------------

    @contextmanager
    def commits_held(self) -> Iterator[None]:
        """No transaction is begun or finished while this lasts; reading goes on."""
        with self._commit_lock:
            if self.failed is not None:
                raise RuntimeError("the storage has failed") from self.failed
            yield

    def copy_of_index(self) -> fsIndex:
        """Where the newest records are now; takes no lock."""
        copy = fsIndex()
        copy.__setstate__(self._index.__getstate__())
        return copy

    def _save_index(self) -> None:
        """Called by FileStorage too; an index that is not saved costs time at the next opening, nothing else."""
        if self.failed is not None:
            # It may be that of another file.
            return
        try:
            write_index(self.shared.disk, self._file_name, self.encoded_index())
        except OSError as exc:
            log.warning("the index of %s is not saved: %s", self._file_name, exc)

    def _restore_index(self) -> tuple[fsIndex, int, bytes]:
        """Called by FileStorage, which would cut the file where it doubts an index of its own."""
        return self._known.index, self._known.end, self._known.tid

    def encoded_index(self) -> bytes:
        """The index as it is now; commits are held, or there are none."""
        self.indexed_bytes = self._pos
        return Contents(self._index, self._pos, self._ltid, self.garbage.bytes).encode()

    def adopt(self, path: str, index: fsIndex, size: int, garbage_bytes: int) -> None:
        """Go on with the packed file at ``path``, which is durable and has lost ``garbage_bytes``; commits are held."""
        disk, run = self.shared.disk, self.shared.background.run
        folder = os.path.dirname(self._file_name)
        # It would be taken for the new file's own, so it has to go first, for certain.
        run(disk.unlink, index_path(self._file_name))
        run(disk.sync_dir, folder)
        with self._lock:
            disk.rename(path, self._file_name)
            with self._must_succeed():
                packed = LiveFile(self._file_name, self.salt, self.shared)
            self._live.retire()
            self._live = packed
            self._initIndex(index, self._tindex)
            self._pos = self.indexed_bytes = size
        self.garbage.bytes -= garbage_bytes
        with self._must_succeed():
            # What is committed from now on needs the new name.
            run(disk.sync_dir, folder)


def _close_files(storage: ShardFileStorage) -> None:
    """Whatever FileStorage had opened before its opening failed."""
    storage._live.retire()
    for opened in ("_file", "_files", "_tfile", "_lock_file"):
        file = getattr(storage, opened, None)
        if file is not None:
            file.close()
