"""What the whole transactions at the beginning of a shard's file hold, as far as it was saved or has been read.

The file ``*.index`` is what an owner has saved: a checksum (4 bytes, big-endian) of what follows, which is a pickle of
position, id of the last transaction, bytes of garbage, and where the newest record of every object is. All of it had
been durable, so it bounds what opening reads.
"""

from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass, field
from typing import Final

from zlib_ng.zlib_ng import crc32
from ZODB.fsIndex import fsIndex
from ZODB.utils import u64, z64

from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import Disk, replace_file
from durable_streams.storage.zodb.records import CHECKSUM, LENGTH, MAGIC
from durable_streams.storage.zodb.shard_file import ShardFile

log = logging.getLogger("durable_streams.storage")

NEWEST: Final = b"\xff" * 8
"""Above every transaction id."""


@dataclass(slots=True)
class Contents:
    """The transactions before ``end``."""

    index: fsIndex = field(default_factory=fsIndex)
    """Where the newest record of every object is."""
    end: int = len(MAGIC)
    tid: bytes = z64
    """No id of theirs is above it."""
    garbage_bytes: int = 0
    transactions: int = 0
    """How many have been read; those of a saved index are not."""
    damage: DirectoryDamaged | None = None
    """Why what follows is not whole; None at the end of the file."""

    def encode(self) -> bytes:
        """As it is saved."""
        data = pickle.dumps((self.end, self.tid, self.garbage_bytes, self.index.__getstate__()), 4)
        return CHECKSUM.pack(crc32(data)) + data

    def read_on(self, file: ShardFile, newest: bytes = NEWEST) -> None:
        """Take in one whole transaction after the other, up to the first with an id above ``newest``."""
        try:
            while self.end < file.size:
                tid = file.read(len(z64), self.end)
                transaction = file.whole_transaction(self.end, None if tid > newest else self.index)
                if tid > newest:
                    break
                self.end, self.tid = transaction.end, tid
                self.transactions += 1
        except DirectoryDamaged as exc:
            self.damage = exc

    def check_end(self, file: ShardFile) -> None:
        """Raise DirectoryDamaged when a whole transaction follows the damage: then it is no torn end, to be cut."""
        damage = self.damage
        follower = file.find_transaction(self.end) if damage else None
        if damage is None or follower is None:
            return
        where = "" if damage.position == self.end else f" (byte {damage.position})"
        what = f"{damage.what}{where}, and a whole transaction follows at byte {follower}"
        raise DirectoryDamaged(file.path, self.end, what)


def index_path(path: str) -> str:
    return path + ".index"


def write_index(disk: Disk, path: str, data: bytes) -> None:
    """Save what was encoded of the file ``path``: durable before it takes the place of the old one."""
    replace_file(disk, index_path(path), data)


def saved_contents(path: str) -> Contents:
    """What was saved of the file ``path``; of nothing where there is no index, or a damaged one."""
    try:
        with open(index_path(path), "rb") as file:
            checksum, data = file.read(CHECKSUM.size), file.read()
    except FileNotFoundError:
        return Contents()
    if checksum != CHECKSUM.pack(crc32(data)):
        log.warning("%s is damaged, or of an older version; the file is read to its end", index_path(path))
        return Contents()
    end, tid, garbage_bytes, state = pickle.loads(data)
    contents = Contents(end=end, tid=tid, garbage_bytes=garbage_bytes)
    contents.index.__setstate__(state)
    return contents


def known_contents(file: ShardFile) -> Contents:
    """What was saved of ``file``; raises DirectoryDamaged when it is not what is known of it."""
    known = saved_contents(file.path)
    if known.end == len(MAGIC):
        return Contents()
    if known.end > file.size:
        what = f"it ends here, and once reached to byte {known.end} at least"
        raise DirectoryDamaged(file.path, file.size, what)
    length_at = known.end - LENGTH.size
    begin = length_at - u64(file.read(LENGTH.size, length_at))
    try:
        transaction = file.transaction(max(begin, len(MAGIC)))
        # Packing drops transactions of nothing but deletions, which may have had the last id.
        if transaction.end == known.end and transaction.tid <= known.tid:
            return known
    except DirectoryDamaged:
        pass
    raise DirectoryDamaged(file.path, length_at, "the transaction that ends here has been whole")
