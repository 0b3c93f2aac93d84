"""The saved index of a shard's file: where the newest record of every object is, up to some position.

What it knows had been durable when it was saved, so it bounds what opening reads. The file ``*.index`` is a checksum (4
bytes, big-endian) of what follows: a pickle of position, id of the last transaction, bytes of garbage, and the index.
"""

from __future__ import annotations

import logging
import pickle
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from ZODB.fsIndex import fsIndex
from ZODB.utils import u64, z64

from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.zodb.records import LENGTH, MAGIC
from durable_streams.storage.zodb.shard_file import ShardFile

log = logging.getLogger("durable_streams.storage")

_CHECKSUM: Final = Struct(">I")


def index_path(path: str) -> str:
    return path + ".index"


class SavedIndex(NamedTuple):
    """What is known of the transactions before ``end``."""

    positions: fsIndex
    end: int = len(MAGIC)
    tid: bytes = z64
    """No id of theirs is above it."""
    garbage_bytes: int = 0

    def encode(self) -> bytes:
        data = pickle.dumps((self.end, self.tid, self.garbage_bytes, self.positions.__getstate__()), 4)
        return _CHECKSUM.pack(crc32(data)) + data


def load_index(path: str) -> SavedIndex | None:
    """The saved index of the file ``path``; None when there is none, or one that is damaged."""
    try:
        with open(index_path(path), "rb") as file:
            checksum, data = file.read(_CHECKSUM.size), file.read()
    except FileNotFoundError:
        return None
    if checksum != _CHECKSUM.pack(crc32(data)):
        log.warning("%s is damaged, or of an older version; the file is read to its end", index_path(path))
        return None
    end, tid, garbage_bytes, state = pickle.loads(data)
    positions = fsIndex()
    positions.__setstate__(state)
    return SavedIndex(positions, end, tid, garbage_bytes)


def saved_end(path: str) -> int:
    """Up to where the file ``path`` is known to have been durable."""
    index = load_index(path)
    return len(MAGIC) if index is None else index.end


def known_index(file: ShardFile) -> SavedIndex:
    """The saved index of ``file``, or an empty one; raises DirectoryDamaged when the file is not what it knows."""
    index = load_index(file.path)
    if index is None or index.end == len(MAGIC):
        return SavedIndex(fsIndex())
    if index.end > file.size:
        what = f"it ends here, and once reached to byte {index.end} at least"
        raise DirectoryDamaged(file.path, file.size, what)
    begin = index.end - LENGTH.size - u64(file.read(LENGTH.size, index.end - LENGTH.size))
    try:
        transaction = file.transaction(max(begin, len(MAGIC)))
        # Packing drops transactions of nothing but deletions, which may have had the last id.
        if transaction.end == index.end and transaction.tid <= index.tid:
            return index
    except DirectoryDamaged:
        pass
    raise DirectoryDamaged(
        file.path, index.end - LENGTH.size, "the transaction that ends here has been whole"
    )
