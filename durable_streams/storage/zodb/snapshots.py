"""A shard's file as it was at one moment, read without its owner: every record checked, every stream followed.

Looks at whole transactions only, so it may be used while the owner writes, and on a backup that nobody may write to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import transaction
from ZODB.BaseStorage import BaseStorage
from ZODB.DB import DB
from ZODB.FileStorage.format import DATA_HDR_LEN, DataHeaderFromString
from ZODB.fsIndex import fsIndex
from ZODB.POSException import POSKeyError
from ZODB.utils import u64, z64

from durable_streams.protocol.state import StreamState
from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import Disk
from durable_streams.storage.zodb.committing import MAGIC
from durable_streams.storage.zodb.model import Head
from durable_streams.storage.zodb.repairing import Damage, ShardFile, indexed_end, position_in_index

PAYLOAD_READ_BYTES: Final = 1 << 20


@dataclass(slots=True)
class Extent:
    """The whole transactions at the beginning of a shard's file."""

    file: ShardFile
    index: fsIndex
    end: int = len(MAGIC)
    tid: bytes = z64
    """Of the last transaction."""
    transactions: int = 0
    torn_bytes: int = 0
    problem: DirectoryDamaged | None = None

    def close(self) -> None:
        self.file.close()


def newest_id(path: str, salt: bytes, disk: Disk) -> bytes:
    """The id of the last whole transaction; what the saved index knows of is not read again."""
    with closing(ShardFile(path, salt, disk)) as file:
        try:
            position = indexed_end(file)
        except DirectoryDamaged:
            return bytes(z64)
        tid = z64
        if position > len(MAGIC):
            tid = file.read(len(z64), position - 8 - u64(file.read(8, position - 8)))
        while position < file.size:
            end = file.transaction_end(position)
            if isinstance(end, Damage):
                break
            position, tid = end, file.read(len(z64), position)
        return bytes(tid)


def scan(path: str, salt: bytes, disk: Disk, newest: bytes) -> Extent:
    """Read a shard's file up to the first transaction that is not whole, or has an id above ``newest``.

    The owner may be writing, and may put a packed file in this one's place.
    """
    while True:
        known = position_in_index(path + ".index")
        extent = _scan(path, salt, disk, newest)
        if extent.torn_bytes and known is not None and extent.end < known:
            what = f"a transaction is damaged, and all up to byte {known} had been whole"
            extent.problem = DirectoryDamaged(path, extent.end, what)
        has_changed = position_in_index(path + ".index") != known
        if extent.file.is_current() and not (extent.problem and has_changed):
            return extent
        extent.close()


def _scan(path: str, salt: bytes, disk: Disk, newest: bytes) -> Extent:
    file = ShardFile(path, salt, disk)
    extent = Extent(file, fsIndex())
    if file.read(len(MAGIC), 0) != MAGIC:
        extent.problem = DirectoryDamaged(path, 0, "it does not begin like a FileStorage")
        return extent
    tried = -1
    while extent.end < file.size:
        tid = file.read(len(z64), extent.end)
        end = file.transaction_end(extent.end, extent.index if tid <= newest else None)
        if isinstance(end, Damage):
            if tried == extent.end or not _is_followed(extent):
                _note(extent, end)
                break
            # It may have been written just now.
            tried = extent.end
            file.refresh()
        elif tid > newest:
            break
        else:
            extent.end, extent.tid = end, tid
            extent.transactions += 1
    return extent


def _is_followed(extent: Extent) -> bool:
    return extent.file.find_transaction(extent.end) is not None


def _note(extent: Extent, damage: Damage) -> None:
    """What is at the end of the whole transactions: a torn one, or damage, which has a whole one behind it."""
    file = extent.file
    follower = file.find_transaction(extent.end)
    if follower is None:
        extent.torn_bytes = file.size - extent.end
    else:
        what = f"{damage.what}, and a whole transaction follows at byte {follower}"
        extent.problem = DirectoryDamaged(file.path, damage.position, what)


class _ExtentStorage(BaseStorage):  # type: ignore[misc]
    """The newest revisions in an extent, for a ZODB connection that reads them."""

    _is_read_only = True

    def __init__(self, extent: Extent) -> None:
        super().__init__(extent.file.path)
        self._extent = extent
        self._ltid = extent.tid

    def __len__(self) -> int:
        return len(self._extent.index)

    def close(self) -> None:
        """The extent is its maker's to close."""

    def load(self, oid: bytes, version: str = "") -> tuple[bytes, bytes]:
        at = self._extent.index.get(oid)
        if at is None:
            raise POSKeyError(oid)
        file = self._extent.file
        header = DataHeaderFromString(file.read(DATA_HDR_LEN, at))
        data = file.data(header, at)
        if data is None:
            raise DirectoryDamaged(file.path, at, "the checksum of a record is wrong")
        return data, header.tid

    def loadBefore(self, oid: bytes, tid: bytes) -> Any:  # noqa: N802
        return (*self.load(oid), None)


class Snapshot:
    """The streams of an extent."""

    def __init__(self, extent: Extent) -> None:
        self._extent = extent

    def streams(self, problems: list[str]) -> Iterator[StreamState]:
        """The state of every stream whose bytes are all there; ``problems`` is told of the others."""
        if z64 not in self._extent.index:
            return
        database = DB(_ExtentStorage(self._extent), cache_size=2000)
        manager = transaction.TransactionManager()
        connection = database.open(manager)
        try:
            streams = connection.root().get("streams")
            names = [] if streams is None else streams.keys()
            for count, name in enumerate(names, 1):
                state = _follow(streams, name, problems)
                if state is not None:
                    yield state
                if count % 100 == 0:
                    connection.cacheGC()
        except Exception as exc:
            problems.append(f"{self._extent.file.path}: the tree of streams cannot be read: {exc!r}")
        finally:
            manager.abort()
            connection.close()
            database.close()


def _follow(streams: Any, name: str, problems: list[str]) -> StreamState | None:
    try:
        head: Head = streams[name]
        state = head.state()
        _check(head, state, name)
    except Exception as exc:
        problems.append(f"stream {name!r} is damaged: {exc!r}")
        return None
    return state


def _check(head: Head, state: StreamState, name: str) -> None:
    """Raise ValueError unless the stream has exactly the bytes that its state speaks of."""
    if (state.name, state.config.uid) != (name, head.uid):
        raise ValueError("its record is that of another stream")
    if head.stop != state.tail:
        raise ValueError(f"its bytes end at position {head.stop} and not at {state.tail}")
    for start in range(state.config.forked_at, state.tail, PAYLOAD_READ_BYTES):
        stop = min(state.tail, start + PAYLOAD_READ_BYTES)
        if len(head.read(start, stop)) != stop - start:
            raise ValueError(f"bytes are missing between positions {start} and {stop}")
