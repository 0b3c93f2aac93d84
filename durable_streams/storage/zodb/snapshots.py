"""A shard's file as it was at one moment, read without its owner: every record checked, every stream followed.

Looks at whole transactions only, so it may be used while the owner writes, and on a backup that nobody may write to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from ZODB.BaseStorage import BaseStorage
from ZODB.utils import z64

from durable_streams.protocol.state import StreamState
from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import Disk
from durable_streams.storage.zodb.contents import NEWEST, Contents, known_contents, saved_contents
from durable_streams.storage.zodb.records import load_before
from durable_streams.storage.zodb.shard import Shard
from durable_streams.storage.zodb.shard_file import ShardFile

PAYLOAD_READ_BYTES: Final = 1 << 20
LISTED_AT_ONCE: Final = 1000
OBJECTS_KEPT: Final = 2000
BYTES_KEPT: Final = 16 << 20
OBJECTS_MIN: Final = 3
"""The root and its two trees, without which there are no streams yet."""


@dataclass(slots=True)
class Snapshot:
    """The whole transactions at the beginning of a shard's file."""

    file: ShardFile
    contents: Contents = field(default_factory=Contents)
    problem: DirectoryDamaged | None = None

    @property
    def torn_bytes(self) -> int:
        """Behind the whole transactions; a crash or a writing owner has left them."""
        return 0 if self.problem or not self.contents.damage else self.file.size - self.contents.end

    def check(self) -> None:
        """Raise DirectoryDamaged when there is a problem."""
        if self.problem is not None:
            raise self.problem

    def close(self) -> None:
        self.file.close()


def newest_id(path: str, salt: bytes, disk: Disk) -> bytes:
    """The id of the last whole transaction; what the saved index knows of is not read again."""
    with closing(ShardFile(path, salt, disk)) as file:
        try:
            contents = known_contents(file)
        except DirectoryDamaged:
            return bytes(z64)
        contents.read_on(file)
        return contents.tid


def take_snapshot(path: str, salt: bytes, disk: Disk, newest: bytes = NEWEST) -> Snapshot:
    """Read a shard's file up to the first transaction that is not whole, or has an id above ``newest``.

    The owner may be writing, and may put a packed file in this one's place. So a problem is one when it is found twice.
    """
    found_before: str | None = None
    while True:
        known_end = saved_contents(path).end
        snapshot = Snapshot(ShardFile(path, salt, disk))
        try:
            _read(snapshot, newest, known_end)
        except DirectoryDamaged as exc:
            snapshot.problem = exc
        problem = str(snapshot.problem or "")
        if snapshot.file.is_current() and problem in ("", found_before):
            return snapshot
        snapshot.close()
        found_before = problem


def _read(snapshot: Snapshot, newest: bytes, known_end: int) -> None:
    file, contents = snapshot.file, snapshot.contents
    file.check_magic()
    contents.read_on(file, newest)
    contents.check_end(file)
    if contents.damage and contents.end < known_end:
        what = f"a transaction is damaged, and all up to byte {known_end} had been whole"
        raise DirectoryDamaged(file.path, contents.end, what)


class _SnapshotStorage(BaseStorage):  # type: ignore[misc]
    """The newest revisions in a snapshot, for a ZODB connection that reads them."""

    _is_read_only = True
    failed = None

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(snapshot.file.path)
        self._snapshot = snapshot
        self._ltid = snapshot.contents.tid

    def __len__(self) -> int:
        return len(self._snapshot.contents.index)

    def close(self) -> None:
        """The snapshot is its maker's to close."""

    def loadBefore(self, oid: bytes, tid: bytes) -> Any:  # noqa: N802
        contents = self._snapshot.contents
        return load_before(self._snapshot.file, oid, contents.index.get(oid, 0), tid, contents.end)


def streams_in(snapshot: Snapshot, problems: list[str]) -> Iterator[StreamState]:
    """The state of every stream whose bytes are all there; ``problems`` is told of the others."""
    if len(snapshot.contents.index) < OBJECTS_MIN:
        return
    storage, name = _SnapshotStorage(snapshot), ""
    try:
        with closing(Shard(storage, lambda: None, OBJECTS_KEPT, BYTES_KEPT)) as shard:
            while names := shard.names("", name, LISTED_AT_ONCE):
                for name in names:
                    try:
                        yield _whole_state(shard, name)
                    except Exception as exc:
                        problems.append(f"stream {name!r} is damaged: {exc!r}")
    except Exception as exc:
        problems.append(f"{snapshot.file.path}: the tree of streams cannot be read: {exc!r}")


def _whole_state(shard: Shard, name: str) -> StreamState:
    """Raises an error unless the stream has exactly the bytes that its state speaks of."""
    state = shard.load(name)
    if state is None or state.name != name:
        raise ValueError("its record is that of another stream")
    for start in range(state.config.forked_at, state.tail, PAYLOAD_READ_BYTES):
        shard.read(state, start, min(state.tail, start + PAYLOAD_READ_BYTES))
    return state
