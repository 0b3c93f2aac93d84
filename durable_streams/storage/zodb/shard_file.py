"""Reading a shard's file transaction by transaction, without its owner: for recovery, backups, checks and packing.

Every record is checked. A transaction that is not whole is where the file ends, unless a whole one follows it: then the
damaged one had been durable (docs/storage-acid.md, "Opening"). Nothing is changed here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from ZODB.fsIndex import fsIndex

from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import Disk
from durable_streams.storage.zodb.records import (
    FINISHED,
    LENGTH,
    MAGIC,
    PACKED,
    STATUS_AT,
    TRANSACTION,
    Record,
    read_record,
)

WINDOW_BYTES: Final = 1 << 20
_PLAIN_STATUSES: Final = (FINISHED + bytes(6), PACKED + bytes(6))
"""Status and lengths of the three texts, as they are in every transaction but a shard's first."""
_TEXTS: Final = (b"", b"initial database creation")


class Transaction(NamedTuple):
    """Where one is, and where its records are."""

    begin: int
    records: int
    records_end: int
    tid: bytes
    status: bytes

    @property
    def end(self) -> int:
        """The position after it."""
        return self.records_end + LENGTH.size


class ShardFile:
    """Reads by position; ``size`` is where the file ends."""

    def __init__(self, path: str, salt: bytes, disk: Disk, window_bytes: int = WINDOW_BYTES) -> None:
        """``window_bytes``: read at once, since what is asked for next lies behind it, mostly."""
        self.path = path
        self.salt = salt
        self._disk = disk
        self.fd = disk.open(path)
        self.size = disk.size(self.fd)
        self._window_bytes = window_bytes
        self._window_at = 0
        self._window = b""

    def close(self) -> None:
        self._disk.close(self.fd)

    def read(self, length: int, position: int) -> bytes:
        """As much of ``length`` bytes as there is."""
        offset = position - self._window_at
        if offset < 0 or offset + length > len(self._window):
            self._window_at, offset = position, 0
            self._window = self._disk.read(self.fd, max(length, self._window_bytes), position)
        return self._window[offset : offset + length]

    def refresh(self) -> None:
        """See what was written since."""
        self._window = b""
        self.size = self._disk.size(self.fd)

    def is_current(self) -> bool:
        """Whether the file still has its name."""
        return os.path.samestat(os.fstat(self.fd), os.stat(self.path))

    def check_magic(self) -> None:
        """Raise DirectoryDamaged unless the file begins like a FileStorage."""
        if self.read(len(MAGIC), 0) != MAGIC:
            raise DirectoryDamaged(self.path, 0, "it does not begin like a FileStorage")

    def transaction(self, begin: int) -> Transaction:
        """The transaction at position ``begin``, whose records are not looked at; raises DirectoryDamaged."""
        header = self.read(TRANSACTION.size, begin)
        if len(header) < TRANSACTION.size:
            raise DirectoryDamaged(self.path, begin, "the header of a transaction is incomplete")
        tid, length, status, *texts = TRANSACTION.unpack(header)
        found = Transaction(begin, begin + TRANSACTION.size + sum(texts), begin + length, tid, status)
        if status not in (FINISHED, PACKED):
            raise DirectoryDamaged(self.path, begin, "a transaction is not finished")
        if found.records > found.records_end or found.end > self.size:
            raise DirectoryDamaged(self.path, begin, "a transaction is longer than the file")
        # Past the window, which payload that looks like a header must not make useless.
        if self._disk.read(self.fd, LENGTH.size, found.records_end) != LENGTH.pack(length):
            raise DirectoryDamaged(self.path, begin, "the two lengths of a transaction differ")
        if self.read(sum(texts), begin + TRANSACTION.size) not in _TEXTS:
            raise DirectoryDamaged(self.path, begin, "the description of a transaction is wrong")
        return found

    def records(self, transaction: Transaction) -> Iterator[tuple[int, Record]]:
        """Its records with their positions, each checked; raises DirectoryDamaged."""
        at = transaction.records
        while at < transaction.records_end:
            record = read_record(self, at, transaction.records_end)
            if record.tid != transaction.tid or record.transaction != transaction.begin:
                raise DirectoryDamaged(self.path, at, "the header of a record is wrong")
            yield at, record
            at += record.size

    def whole_transaction(self, begin: int, index: fsIndex | None = None) -> Transaction:
        """The transaction at ``begin``, every record of it checked; raises DirectoryDamaged.

        ``index`` knows the newest records before it, and is told of those in it.
        """
        transaction, found = self.transaction(begin), {}
        for at, record in self.records(transaction):
            if index is not None and record.previous != index.get(record.oid, 0):
                raise DirectoryDamaged(self.path, at, "a record does not follow the one before of its object")
            found[record.oid] = at
        if index is not None:
            index.update(found)
        return transaction

    def find_transaction(self, position: int) -> int | None:
        """Where the first whole transaction begins that lies after ``position``."""
        at = position + 1
        while at < self.size:
            window = self._disk.read(self.fd, WINDOW_BYTES + TRANSACTION.size, at)
            for status in _PLAIN_STATUSES:
                hit = window.find(status, STATUS_AT)
                while hit >= 0:
                    if self._is_whole(at + hit - STATUS_AT):
                        return at + hit - STATUS_AT
                    hit = window.find(status, hit + 1)
            at += WINDOW_BYTES
        return None

    def _is_whole(self, position: int) -> bool:
        try:
            self.whole_transaction(position)
        except DirectoryDamaged:
            return False
        return True
