"""EarlyFS, the FileStorage of a shard.

It publishes a transaction after its fsync, holds none of the locks that readers take meanwhile, gives every
record a checksum, and counts what is garbage. The format stays that of ZODB's FileStorage. It overrides private parts
of ZODB 6.4, which tests/acid/test_relied_internals.py guards.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pickle import Pickler
from struct import Struct
from typing import Any, Final
from zlib import crc32

from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage.FileStorage import FileStorage, TempFormatter, packed_version
from ZODB.FileStorage.format import DATA_HDR, DATA_HDR_LEN, DataHeader, DataHeaderFromString, TxnHeader
from ZODB.fsIndex import fsIndex
from ZODB.POSException import POSKeyError, StorageTransactionError
from ZODB.utils import p64, z64

from durable_streams.storage.on_disk.disk import Part, write_file
from durable_streams.storage.zodb.shared import OpenFile, Shared

log = logging.getLogger("durable_streams.storage")

MAGIC: Final[bytes] = packed_version
CHECKSUM: Final = Struct(">I")
INDEX_END: Final = Struct(">QI")
"""Behind what ZODB knows of in a saved index: bytes of garbage, checksum of everything before."""
SOON_WRITTEN_BYTES: Final = 256 << 10
"""A transaction larger than this is handed to the system in a thread."""
FIRST_READ_BYTES: Final = 4096
"""Most records are smaller, and need one read."""
STORED_AT_ONCE: Final = 32
"""After so many objects the others have their turn; only the commit lock is held."""
DELETED_AT_ONCE: Final = 500
"""Deleting takes time too, so the objects of a large stream go with several transactions."""
_NEVER: Final = b"\xff" * 8
_DATA_HEADER: Final = Struct(DATA_HDR)


class RecordDamaged(Exception):
    """A record that fails its checksum, or is not where it has to be."""

    def __init__(self, path: str, position: int, what: str) -> None:
        super().__init__(f"{path} is damaged at byte {position}: {what}")
        self.position = position
        self.what = what


def checksum_of(salt: bytes, oid: bytes, tid: bytes, data: bytes) -> int:
    """The salt is the directory's own, so payload cannot be made to look like a record."""
    return crc32(data, crc32(salt + oid + tid))


class EarlyFS(FileStorage):  # type: ignore[misc]
    """Used by the greenlets of one thread; the calls to the disk alone happen in others."""

    _pos: int
    """Where the durable transactions end."""
    _transaction: Any
    _ude: Any
    _file: Any

    def __init__(self, path: str, salt: bytes, shared: Shared) -> None:
        """The file exists, and ends with a whole transaction."""
        self.failed: BaseException | None = None
        """Why it is unknown what the disk holds; nothing is written any more."""
        self.garbage_bytes = 0
        """Records that newer ones have replaced, as far as is known."""
        self.indexed_bytes = 0
        """Up to where the saved index knows the file."""
        self._salt = salt
        self._disk = shared.disk
        self._threads = shared.committing
        self._ids = shared.ids
        self._unneeded: list[bytes] = []
        self._open_file = OpenFile(shared, path)
        try:
            super().__init__(path, pack_gc=False, pack_keep_old=False)
            if self._used_index:
                self.garbage_bytes = _saved_garbage(path + ".index")
            self._tfile.close()
            os.unlink(path + ".tmp")
        except BaseException:
            self._release()
            raise
        self._clear_temp()
        self._ids.note(self._ltid)

    def _release(self) -> None:
        """Close whatever has been opened."""
        self._open_file.close()
        for opened in ("_file", "_files", "_tfile", "_lock_file"):
            file = getattr(self, opened, None)
            if file is not None:
                file.close()

    def close(self) -> None:
        super().close()
        self._open_file.close()

    # -- reading -----------------------------------------------------------------------------------------------

    def load(self, oid: bytes, version: str = "") -> tuple[bytes, bytes]:
        data, tid, _ = self.loadBefore(oid, _NEVER)
        return data, tid

    def loadBefore(self, oid: bytes, tid: bytes) -> Any:  # noqa: N802
        """The newest revision before ``tid``; every record on the way to it is checked."""
        end_tid, position, end = None, self._lookup_pos(oid), self._pos
        fd = self._open_file.pin()
        try:
            while True:
                header, data = self._checked(fd, oid, position, end)
                if header.tid < tid:
                    if not header.plen:
                        raise POSKeyError(oid)
                    return data, header.tid, end_tid
                end_tid, position = header.tid, header.prev
                if not position:
                    return None
        finally:
            self._open_file.unpin()

    def loadSerial(self, oid: bytes, serial: bytes) -> bytes:  # noqa: N802
        raise POSKeyError(oid)

    def getTid(self, oid: bytes) -> bytes:  # noqa: N802
        header = self._header_at(oid, self._lookup_pos(oid))
        if not header.plen:
            raise POSKeyError(oid)
        tid: bytes = header.tid
        return tid

    def _header_at(self, oid: bytes, position: int) -> DataHeader:
        end, fd = self._pos, self._open_file.pin()
        try:
            return self._parsed(oid, position, end, self._open_file.read(fd, DATA_HDR_LEN, position))
        finally:
            self._open_file.unpin()

    def _length_at(self, oid: bytes, position: int) -> int:
        """Of a record that is about to go; 0 when it cannot be read, which is no matter then."""
        with suppress(RecordDamaged, OSError):
            return int(self._header_at(oid, position).recordlen())
        return 0

    def _parsed(self, oid: bytes, position: int, end: int, stored: Part) -> DataHeader:
        """The header of the record at ``position`` that ``stored`` begins with, in a file that ends at ``end``."""
        try:
            header = DataHeaderFromString(stored[:DATA_HDR_LEN])
        except Exception as exc:
            raise RecordDamaged(self._file_name, position, "the header of the record is wrong") from exc
        if header.oid != oid or position + header.recordlen() > end:
            raise RecordDamaged(self._file_name, position, "the header of the record is wrong")
        return header

    def _checked(self, fd: int, oid: bytes, position: int, end: int) -> tuple[DataHeader, bytes]:
        """The record at ``position`` and its data."""
        read, first = self._open_file.read, min(FIRST_READ_BYTES, end - position)
        stored = bytes(read(fd, first, position))
        header = self._parsed(oid, position, end, stored)
        length: int = header.recordlen()
        if length > first:
            stored += read(fd, length - first, position + first)
        if not header.plen:
            return header, b""
        data = stored[DATA_HDR_LEN : length - CHECKSUM.size]
        right = CHECKSUM.pack(checksum_of(self._salt, oid, header.tid, data))
        if stored[length - CHECKSUM.size : length] != right:
            raise RecordDamaged(self._file_name, position, "the checksum of the record is wrong")
        return header, data

    # -- writing -----------------------------------------------------------------------------------------------

    def delete_later(self, oids: Sequence[bytes]) -> None:
        """Objects that no committed object refers to; they go with the next transactions."""
        self._unneeded += oids

    def store(self, oid: bytes, oldserial: bytes, data: bytes, version: str, transaction: Any) -> None:
        """One connection writes, and it begins every transaction with the newest revisions: there are no conflicts."""
        if transaction is not self._transaction:
            raise StorageTransactionError(self, transaction)
        if oid > self._oid:
            self.set_max_oid(oid)
        previous = self._index_get(oid, 0)
        tid = self._tid
        checksum = CHECKSUM.pack(checksum_of(self._salt, oid, tid, data))
        length = len(data) + CHECKSUM.size
        if previous:
            # Nearly: what is replaced is about as long as what replaces it.
            self._replaced_bytes += DATA_HDR_LEN + length
        self._tindex[oid] = self._pos + self._thl + self._tfile.tell()
        header = _DATA_HEADER.pack(oid, tid, previous, self._pos, 0, length)
        self._tfile.write(b"".join((header, data, checksum)))
        if len(self._tindex) % STORED_AT_ONCE == 0:
            self._threads.yield_to_loop()

    def _delete_some(self) -> int:
        """Put deletions into the transaction, and return how many."""
        some = self._unneeded[:DELETED_AT_ONCE]
        for oid in some:
            previous = self._index_get(oid, 0)
            if previous and oid not in self._tindex:
                self._replaced_bytes += self._length_at(oid, previous) + DATA_HDR_LEN + 8
                self._tindex[oid] = self._pos + self._thl + self._tfile.tell()
                self._tfile.write(_DATA_HEADER.pack(oid, self._tid, previous, self._pos, 0, 0) + z64)
        return len(some)

    def tpc_begin(self, transaction: Any, tid: bytes | None = None, status: str = " ") -> None:
        super().tpc_begin(transaction, tid or self._ids.next(), status)
        self._replaced_bytes = 0

    def tpc_vote(self, transaction: Any) -> Any:
        """Write the transaction, marked as unfinished; when that fails nothing of it is kept."""
        if transaction is not self._transaction:
            raise StorageTransactionError(self, transaction)
        self._deleted = self._delete_some()
        with self._tfile.getbuffer() as records:
            length = self._thl + len(records)
            parts = (self._header(length), records, p64(length))
            self._nextpos = self._pos + length + 8
            if len(records) > SOON_WRITTEN_BYTES:
                self._threads.run(self._disk.write, self._open_file.fd, parts, self._pos)
            else:
                self._disk.write(self._open_file.fd, parts, self._pos)
        return self._resolved

    def _header(self, length: int) -> bytes:
        user, description, extension = self._ude
        header = TxnHeader(self._tid, length, "c", len(user), len(description), len(extension))
        header.user, header.descr, header.ext = user, description, extension
        data: bytes = header.asString()
        return data

    def tpc_finish(self, transaction: Any, f: Callable[[bytes], None] | None = None) -> bytes:
        """Make it durable, then visible. When the first fails nobody knows what the disk holds."""
        if transaction is not self._transaction:
            raise StorageTransactionError(self, transaction)
        try:
            self._threads.run(self._make_durable)
        except BaseException as exc:
            self.failed = exc
            raise
        with self._files.write_lock(), self._lock:
            tid: bytes = self._tid
            if f is not None:
                f(tid)
            self._pos = self._nextpos
            self._index.update(self._tindex)
            self._ltid = tid
            self._clear_temp()
            self._ude = self._transaction = None
            self.garbage_bytes += self._replaced_bytes
            del self._unneeded[: self._deleted]
            self._commit_lock.release()
        return tid

    def _make_durable(self) -> None:
        status = str(self._tstatus).encode()
        self._disk.write(self._open_file.fd, [status], self._pos + 16)
        self._disk.sync(self._open_file.fd)

    def _clear_temp(self) -> None:
        """The records of a transaction wait in memory, not in a file."""
        self._tindex.clear()
        self._tfile = BytesIO()
        self._tfmt = TempFormatter(self._tfile)

    def _abort(self) -> None:
        if self._nextpos and self.failed is None:
            try:
                self._disk.truncate(self._open_file.fd, self._pos)
            except BaseException as exc:
                self.failed = exc
                raise
            self._files.flush()
            self._nextpos = 0

    @property
    def has_deletions(self) -> bool:
        return bool(self._unneeded)

    @property
    def has_many_deletions(self) -> bool:
        """More than the next transaction will take with it."""
        return len(self._unneeded) > DELETED_AT_ONCE

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

    def _save_index(self) -> None:
        """Called by FileStorage too; an index that is not saved costs time at the next opening, nothing else."""
        if self.failed is not None:
            # It may be that of another file.
            return
        try:
            self.write_index(self.pickled_index())
        except OSError as exc:
            log.warning("the index of %s is not saved: %s", self._file_name, exc)

    def _sane(self, index: Any, pos: int) -> Any:
        """FileStorage would do without an index that it doubts, and cut the file where it does not understand it.

        Here repairing.py has seen to both; this is the id of the last transaction that the index knows of.
        """
        if pos <= len(MAGIC):
            return None
        begin = pos - 8 - self._read_num(pos - 8)
        return self._read_txn_header(begin).tid

    def pickled_index(self) -> bytes:
        """The index as it is now; commits are held, or there are none."""
        self.indexed_bytes = self._pos
        return pickled_index(self._index, self._pos, self.garbage_bytes)

    def write_index(self, data: bytes) -> None:
        """Durable before it takes the place of the old one, unlike FileStorage's own."""
        path = self._file_name + ".index"
        write_file(self._disk, path + ".tmp", data)
        self._disk.rename(path + ".tmp", path)

    def adopt(self, path: str, index: Any, size: int, garbage_before: int) -> None:
        """Go on with the packed file at ``path``, which is durable; commits are held."""
        # It would be taken for the new file's own, so it has to go first, for certain.
        self._disk.unlink(self._file_name + ".index")
        self._disk.sync_dir(os.path.dirname(self._file_name))
        with self._files.write_lock(), self._lock:
            self._disk.rename(path, self._file_name)
            try:
                self._reopen()
            except BaseException as exc:
                self.failed = exc
                raise
            self._initIndex(index, self._tindex)
            self._pos = self.indexed_bytes = size
        self.garbage_bytes -= garbage_before

    def _reopen(self) -> None:
        """The file of this name is another one now."""
        self._files.empty()
        self._file.close()
        self._file = open(self._file_name, "r+b")  # noqa: SIM115
        self._open_file.reopen()

    def sync_names(self) -> None:
        """Whatever is committed after a change of names needs that change."""
        try:
            self._disk.sync_dir(os.path.dirname(self._file_name))
        except BaseException as exc:
            self.failed = exc
            raise


def pickled_index(index: fsIndex, end: int, garbage_bytes: int) -> bytes:
    """An index of the file up to ``end`` in the form of ``fsIndex.save``, with an end of our own."""
    data = BytesIO()
    pickler = Pickler(data, 3)
    pickler.fast = True
    pickler.dump(end)
    for prefix, positions in index._data.items():
        pickler.dump((prefix, positions.toString()))
    pickler.dump(None)
    # ZODB stops reading before this.
    count = INDEX_END.pack(garbage_bytes, 0)[:8]
    data.write(INDEX_END.pack(garbage_bytes, crc32(count, crc32(data.getbuffer()))))
    return data.getvalue()


def _saved_garbage(path: str) -> int:
    with open(path, "rb") as file:
        file.seek(-INDEX_END.size, os.SEEK_END)
        count, _ = INDEX_END.unpack(file.read())
    return int(count)
