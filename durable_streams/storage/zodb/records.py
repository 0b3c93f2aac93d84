"""The record format of a shard's file: the one reader and the one writer of it.

The format is that of ZODB's FileStorage, so stock ZODB reads the files. What we add is a checksum behind the pickles of
every record, where a pickle has ended already. All numbers are big-endian.

    file         "FS30", then transactions
    transaction  id (8), length (8), status (1), lengths of user, description and extension (2 each), these three,
                 records, length (8); the length counts all but its second copy
    record       object id (8), transaction id (8), position of the object's record before (8), position of the
                 transaction (8), 0 (2), length (8), data and checksum (4); a deletion has length 0 and 8 bytes of zeros

The status is ``c`` while a transaction is not durable, then a space, and ``p`` for what packing has copied.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple, Protocol

from zlib_ng.zlib_ng import crc32
from ZODB.FileStorage.FileStorage import packed_version
from ZODB.POSException import POSKeyError

from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import Part

MAGIC: Final[bytes] = packed_version
TRANSACTION: Final = Struct(">8sQcHHH")
RECORD: Final = Struct(">8s8sQQHQ")
LENGTH: Final = Struct(">Q")
CHECKSUM: Final = Struct(">I")
STATUS_AT: Final = 16
UNFINISHED: Final = b"c"
FINISHED: Final = b" "
PACKED: Final = b"p"
DELETED: Final = bytes(8)
FIRST_READ_BYTES: Final = 4096
"""Most records are smaller, and need one read."""


class Source(Protocol):
    """Bytes of a shard's file."""

    path: str
    salt: bytes
    """The directory's own, so payload cannot be made to look like a record."""

    def read(self, length: int, position: int) -> Part:
        """``length`` bytes, fewer at the end of the file only."""


class Record(NamedTuple):
    """One revision of one object."""

    oid: bytes
    tid: bytes
    previous: int
    transaction: int
    length: int
    """Of data and checksum; 0: the object was deleted."""
    data: bytes = b""

    @property
    def size(self) -> int:
        """Of the whole record."""
        return RECORD.size + (self.length or len(DELETED))


def checksum_of(salt: bytes, oid: bytes, tid: bytes, data: bytes) -> bytes:
    return CHECKSUM.pack(crc32(data, crc32(salt + oid + tid)))


def read_record(source: Source, position: int, end: int) -> Record:
    """The record at ``position``, of a transaction or file that ends at ``end``; raises DirectoryDamaged."""
    stored = source.read(max(0, min(FIRST_READ_BYTES, end - position)), position)
    header = _header(source, stored, position, end)
    size = header.size
    if not header.length:
        return header
    if len(stored) < size:
        stored = b"".join((stored, source.read(size - len(stored), position + len(stored))))
    data = bytes(stored[RECORD.size : size - CHECKSUM.size])
    if stored[size - CHECKSUM.size : size] != checksum_of(source.salt, header.oid, header.tid, data):
        raise DirectoryDamaged(source.path, position, "the checksum of a record is wrong")
    return Record(*header[:5], data)


def load_before(
    source: Source, oid: bytes, position: int, tid: bytes, end: int
) -> tuple[bytes, bytes, bytes | None] | None:
    """What ``IStorage.loadBefore`` returns, of an object whose newest record is at ``position`` (0: it has none)."""
    if not position:
        raise POSKeyError(oid)
    end_tid = None
    while position:
        record = read_record(source, position, end)
        if record.oid != oid:
            raise DirectoryDamaged(source.path, position, "the record is that of another object")
        if record.tid < tid:
            if not record.length:
                raise POSKeyError(oid)
            return record.data, record.tid, end_tid
        end_tid, position = record.tid, record.previous
    return None


def record_size(source: Source, position: int, end: int) -> int:
    """The length of the record at ``position``, whose data are not looked at; raises DirectoryDamaged."""
    return _header(source, source.read(RECORD.size, position), position, end).size


def _header(source: Source, stored: Part, position: int, end: int) -> Record:
    if len(stored) >= RECORD.size:
        oid, tid, previous, transaction, version, length = RECORD.unpack_from(stored)
        header = Record(oid, tid, previous, transaction, length)
        if not version and (not length or length > CHECKSUM.size) and position + header.size <= end:
            return header
    raise DirectoryDamaged(source.path, position, "the header of a record is wrong")


class TransactionWriter:
    """Puts together the transaction that will stand at ``position``."""

    def __init__(self, salt: bytes, tid: bytes, position: int, texts: tuple[bytes, bytes, bytes]) -> None:
        """``texts``: user, description and extension."""
        self.positions: dict[bytes, int] = {}
        """Where the record of each object will be."""
        self._salt = salt
        self._tid = tid
        self._begin = position
        self._texts = texts
        self._parts: list[Part] = []
        self._at = position + TRANSACTION.size + sum(map(len, texts))

    def add(self, oid: bytes, previous: int, data: bytes | None) -> int:
        """Add a revision, or the deletion of an object, and return the length of its record."""
        self.positions[oid] = self._at
        if data is None:
            body: tuple[bytes, ...] = (DELETED,)
            length = 0
        else:
            body = (data, checksum_of(self._salt, oid, self._tid, data))
            length = len(data) + CHECKSUM.size
        self._parts += (RECORD.pack(oid, self._tid, previous, self._begin, 0, length), *body)
        size = RECORD.size + (length or len(DELETED))
        self._at += size
        return size

    @property
    def end(self) -> int:
        """The position after the transaction."""
        return self._at + LENGTH.size

    def parts(self, status: bytes) -> list[Part]:
        """All of it, to be written one part after the other."""
        length = self._at - self._begin
        header = TRANSACTION.pack(self._tid, length, status, *map(len, self._texts))
        return [header, *self._texts, *self._parts, LENGTH.pack(length)]
