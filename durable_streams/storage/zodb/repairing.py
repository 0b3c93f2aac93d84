"""Cutting what a crash has left at the end of a shard's file, before FileStorage sees it.

FileStorage itself refuses some torn ends and takes others for whole. Here every record of the transactions behind the
saved index is checked, and the first that is not whole is where the file ends; unless a whole transaction follows it,
for then the damaged one had been durable, and nothing is cut. docs/storage-acid.md, "Opening", has the cases.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from zlib import crc32

from ZODB.FileStorage.format import DATA_HDR_LEN, TRANS_HDR_LEN, DataHeaderFromString, TxnHeaderFromString
from ZODB.fsIndex import fsIndex
from ZODB.utils import u64

from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import Disk, says_full, write_file
from durable_streams.storage.zodb.committing import CHECKSUM, INDEX_END, MAGIC, checksum_of

log = logging.getLogger("durable_streams.storage")

WINDOW_BYTES: Final = 1 << 20
STATUS_AT: Final = 16
_FINISHED: Final = (b" ", b"p")
_PLAIN_STATUSES: Final = (b" " + bytes(6), b"p" + bytes(6))
"""Status and lengths of user, description and extension, as they are in every transaction but a shard's first."""
_DESCRIPTIONS: Final = (b"", b"initial database creation")


class Damage(NamedTuple):
    position: int
    what: str


class ShardFile:
    """Reads a shard's file by position; ``size`` is where it ends."""

    def __init__(self, path: str, salt: bytes, disk: Disk) -> None:
        self.path = path
        self._salt = salt
        self._disk = disk
        self._fd = disk.open(path)
        self.size = disk.size(self._fd)
        self._window_at = 0
        self._window = b""

    def close(self) -> None:
        self._disk.close(self._fd)

    def read(self, length: int, position: int) -> bytes:
        """As much of ``length`` bytes as there is."""
        offset = position - self._window_at
        if offset < 0 or offset + length > len(self._window):
            self._window_at, offset = position, 0
            self._window = self._disk.read(self._fd, max(length, WINDOW_BYTES), position)
        return self._window[offset : offset + length]

    def refresh(self) -> None:
        """See what was written since."""
        self._window = b""
        self.size = self._disk.size(self._fd)

    def is_current(self) -> bool:
        """Whether the file still has its name."""
        return os.path.samestat(os.fstat(self._fd), os.stat(self.path))

    def transaction_end(self, position: int, index: fsIndex | None = None) -> int | Damage:
        """Where the transaction at ``position`` ends, or what is wrong with it; every record of it is checked.

        ``index``, which knows all before it, is told of the records of a transaction that is whole.
        """
        header_bytes = self.read(TRANS_HDR_LEN, position)
        if len(header_bytes) < TRANS_HDR_LEN:
            return Damage(position, "the header of a transaction is incomplete")
        if header_bytes[STATUS_AT : STATUS_AT + 1] not in _FINISHED:
            return Damage(position, "a transaction is not finished")
        header = TxnHeaderFromString(header_bytes)
        end: int = position + header.tlen
        if header.tlen < header.headerlen() or end + 8 > self.size:
            return Damage(position, "a transaction is longer than the file")
        # Past the window, which payload that looks like a header must not make useless.
        if u64(self._disk.read(self._fd, 8, end)) != header.tlen:
            return Damage(position, "the two lengths of a transaction differ")
        at = position + header.headerlen()
        if self.read(at - position - TRANS_HDR_LEN, position + TRANS_HDR_LEN) not in _DESCRIPTIONS:
            return Damage(position, "the description of a transaction is wrong")
        found: dict[bytes, int | None] = {}
        while at < end:
            record = self._record(at, header.tid, position, end)
            if isinstance(record, Damage):
                return record
            if index is not None and record.prev != index.get(record.oid, 0):
                return Damage(at, "a record does not follow the one before of its object")
            found[record.oid] = at if record.plen else None
            at += record.recordlen()
        if at != end:
            return Damage(position, "the records of a transaction do not add up")
        if index is not None:
            _enter(index, found)
        return end + 8

    def _record(self, at: int, tid: bytes, transaction_at: int, end: int) -> Any:
        """The header of a whole record, or what is wrong with it."""
        try:
            header = DataHeaderFromString(self.read(DATA_HDR_LEN, at))
        except Exception:
            return Damage(at, "the header of a record is wrong")
        if at + header.recordlen() > end or header.tid != tid or header.tloc != transaction_at:
            return Damage(at, "the header of a record is wrong")
        if header.plen and self.data(header, at) is None:
            return Damage(at, "the checksum of a record is wrong")
        return header

    def data(self, header: Any, at: int) -> bytes | None:
        """The data of the record at ``at``; None when its checksum is wrong."""
        stored = self.read(header.plen, at + DATA_HDR_LEN)
        data = stored[: -CHECKSUM.size]
        right = CHECKSUM.pack(checksum_of(self._salt, header.oid, header.tid, data))
        return data if stored[-CHECKSUM.size :] == right else None

    def find_transaction(self, position: int) -> int | None:
        """Where the first whole transaction begins that lies after ``position``."""
        at = position + 1
        while at < self.size:
            window = self._disk.read(self._fd, WINDOW_BYTES + TRANS_HDR_LEN, at)
            for status in _PLAIN_STATUSES:
                hit = window.find(status, STATUS_AT)
                while hit >= 0:
                    found = at + hit - STATUS_AT
                    if isinstance(self.transaction_end(found), int):
                        return found
                    hit = window.find(status, hit + 1)
            at += WINDOW_BYTES
        return None


def _enter(index: fsIndex, found: Mapping[bytes, int | None]) -> None:
    for oid, at in found.items():
        if at is not None:
            index[oid] = at
        elif oid in index:
            del index[oid]


def first_damage(file: ShardFile, start: int) -> Damage | None:
    """The first transaction from ``start`` on that is not whole."""
    position = start
    while position < file.size:
        end = file.transaction_end(position)
        if isinstance(end, Damage):
            return end if end.position == position else Damage(position, f"{end.what} (byte {end.position})")
        position = end
    return None


def indexed_end(file: ShardFile) -> int:
    """Up to where the saved index knows the file, which was durable then; else where the first transaction begins.

    Raises DirectoryDamaged when there is no end of a transaction.
    """
    start = len(MAGIC)
    position = position_in_index(file.path + ".index")
    if position is None or position < start + 8:
        return start
    if position > file.size:
        raise DirectoryDamaged(
            file.path, file.size, f"it ends here, and once reached to byte {position} at least"
        )
    length = u64(file.read(8, position - 8))
    begin = position - 8 - length
    header = file.read(TRANS_HDR_LEN, max(0, begin))
    if begin < start or u64(header[8:16]) != length or header[STATUS_AT : STATUS_AT + 1] not in _FINISHED:
        raise DirectoryDamaged(file.path, position - 8, "the transaction that ends here has been whole")
    return position


def position_in_index(path: str) -> int | None:
    """Up to where a saved index knows its file; None when there is no index, or one that is damaged."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    if len(data) < INDEX_END.size or INDEX_END.unpack(data[-INDEX_END.size :])[1] != crc32(data[:-4]):
        return None
    position = pickle.loads(data)
    return position if isinstance(position, int) else None


def drop_damaged_index(path: str, disk: Disk) -> None:
    """FileStorage believes any index that it can read, and makes a new one where there is none."""
    if os.path.exists(path + ".index") and position_in_index(path + ".index") is None:
        log.warning("%s.index is damaged; a new one is made", path)
        disk.unlink(path + ".index")


def repair_tail(path: str, salt: bytes, disk: Disk) -> int:
    """Cut the end of a shard's file that is no whole transaction, and return how many bytes that were.

    They are kept beside the file in ``*.cut``. Raises DirectoryDamaged when a whole transaction follows them.
    """
    file = ShardFile(path, salt, disk)
    try:
        if file.read(len(MAGIC), 0) != MAGIC:
            raise DirectoryDamaged(path, 0, "it does not begin like a FileStorage")
        damage = first_damage(file, indexed_end(file))
        if damage is None:
            return 0
        follower = file.find_transaction(damage.position)
        if follower is not None:
            raise DirectoryDamaged(
                path, damage.position, f"{damage.what}, and a whole transaction follows at byte {follower}"
            )
        torn = file.size - damage.position
        log.warning("%s: %d bytes cut at byte %d: %s", path, torn, damage.position, damage.what)
        _cut(file, damage.position, disk)
        return torn
    finally:
        file.close()


def _keep(file: ShardFile, position: int, disk: Disk) -> None:
    """For people, where there is room for it: nobody was answered for these bytes."""
    path = file.path + ".cut"
    try:
        write_file(disk, path, file.read(file.size - position, position))
    except OSError as exc:
        if not says_full(exc):
            raise
        log.warning("%s: what is cut is not kept: %s", file.path, exc)
        disk.unlink(path)


def _cut(file: ShardFile, position: int, disk: Disk) -> None:
    _keep(file, position, disk)
    fd = disk.open(file.path, write=True)
    try:
        disk.truncate(fd, position)
        disk.sync(fd)
    finally:
        disk.close(fd)
    disk.sync_dir(os.path.dirname(file.path))
