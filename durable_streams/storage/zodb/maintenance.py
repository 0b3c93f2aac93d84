"""What operators do with a data directory: verify it, back it up, restore a backup, compact it.

All but compacting may be done while a server owns the directory and writes to it: nothing before the end of a shard's
file ever changes, and a file that a pack has replaced can be read to its end. A backup is a data directory like any
other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ZODB.FileStorage.format import CorruptedError
from ZODB.POSException import POSKeyError
from ZODB.utils import newTid

from durable_streams.eventloop.threads import Threads
from durable_streams.protocol.state import ForkPoint, StreamState
from durable_streams.storage.on_disk.directory import DirectoryDamaged, WrongLayout, kind_of, names_in, own
from durable_streams.storage.on_disk.disk import Disk, write_file
from durable_streams.storage.on_disk.report import Report
from durable_streams.storage.zodb.committing import EarlyFS, RecordDamaged, pickled_index
from durable_streams.storage.zodb.opening import (
    Layout,
    lock_of,
    make_root,
    open_file,
    prepare,
    read_layout,
    root_of,
    shard_of,
    write_layout,
)
from durable_streams.storage.zodb.packing import Copying
from durable_streams.storage.zodb.packing import pack as pack_storage
from durable_streams.storage.zodb.shared import Shared
from durable_streams.storage.zodb.snapshots import Extent, Snapshot, newest_id, scan

PIECE_BYTES: Final = 1 << 20


def verify(data_dir: Path, disk: Disk | None = None) -> Report:
    """Read every record, check every checksum, and follow every stream to its bytes; raises WrongLayout."""
    disk, report = disk or Disk(), Report()
    layout = _layout_of(data_dir)
    with _extents(layout, disk) as extents:
        ends: dict[str, tuple[str, int]] = {}
        forks: list[tuple[str, ForkPoint]] = []
        for number, extent in enumerate(extents):
            report.commits += extent.transactions
            report.torn_bytes += extent.torn_bytes
            if extent.problem is not None:
                report.problems.append(str(extent.problem))
            for state in Snapshot(extent).streams(report.problems):
                _note(state, report, ends, forks)
                if shard_of(state.name, layout.shard_count) != number:
                    report.problems.append(
                        f"stream {state.name!r} is in shard {number}, which is not its own"
                    )
        for name, fork in forks:
            report.check_fork(name, fork, ends.get(fork.source))
    return report


def _note(
    state: StreamState,
    report: Report,
    ends: dict[str, tuple[str, int]],
    forks: list[tuple[str, ForkPoint]],
) -> None:
    report.streams += 1
    report.payload_bytes += state.own_bytes
    ends[state.name] = (state.config.uid, state.tail)
    if state.config.fork is not None:
        forks.append((state.name, state.config.fork))


def _layout_of(data_dir: Path) -> Layout:
    layout = read_layout(data_dir)
    if layout is None:
        raise WrongLayout(f"{root_of(data_dir)} holds no file 'layout.json': {kind_of(data_dir)}")
    for path in layout.shards():
        if not os.path.exists(path):
            raise DirectoryDamaged(path, 0, "the file is missing")
    return layout


@contextmanager
def _extents(layout: Layout, disk: Disk) -> Iterator[Sequence[Extent]]:
    """All shards as they were at one moment.

    A change in one shard can rest on one in another that had been answered before it began, a fork on the reference
    that its source holds. Transaction ids grow over all shards; so whatever a transaction up to ``newest`` rests on
    was in its file when the files are looked at for the second time, and has a smaller id.
    """
    newest = newTid(max(newest_id(path, layout.salt, disk) for path in layout.shards()))
    with ExitStack() as stack:
        extents = []
        for path in layout.shards():
            extents.append(scan(path, layout.salt, disk, newest))
            stack.callback(extents[-1].close)
        yield extents


def backup(data_dir: Path, target: Path, disk: Disk | None = None) -> Report:
    """Copy the directory, as it is at one moment, into ``target`` and verify the copy.

    ``target`` must be missing or empty, and the directory whole: else ValueError. It is no data directory before the
    copy is complete and durable.
    """
    disk, source = disk or Disk(), _layout_of(data_dir)
    target.mkdir(parents=True, exist_ok=True)
    if names_in(target):
        raise ValueError(f"{target} is not empty")
    make_root(target, disk)
    copy = Layout(root_of(target), source.shard_count, source.salt)
    with _extents(source, disk) as extents:
        for number, extent in enumerate(extents):
            if extent.problem is not None:
                raise extent.problem
            path = copy.shard(number)
            _copy(extent, path, disk)
            # Opening is quick with it, and it says that all of the file was whole.
            write_file(disk, path + ".index", pickled_index(extent.index, extent.end, 0))
    disk.sync_dir(copy.root)
    write_layout(copy, disk)
    return verify(target, disk)


def _copy(extent: Extent, target: str, disk: Disk) -> None:
    fd = disk.open(target, write=True)
    try:
        for at in range(0, extent.end, PIECE_BYTES):
            disk.write(fd, [extent.file.read(min(PIECE_BYTES, extent.end - at), at)], at)
        disk.sync(fd)
    finally:
        disk.close(fd)


def restore(source: Path, data_dir: Path, disk: Disk | None = None) -> Report:
    """Make ``data_dir``, which must be missing or empty, what the backup ``source`` is.

    Raises ValueError when it is not empty, or when the backup is damaged; then nothing is restored.
    """
    report = verify(source, disk)
    if report.problems:
        raise ValueError(f"the backup {source} is not restored: {report.problems[0]}")
    return backup(source, data_dir, disk)


@dataclass(frozen=True, slots=True)
class Packed:
    """Bytes of all shards' files together."""

    bytes_before: int
    bytes_after: int
    seconds: float


def compact(data_dir: Path, disk: Disk | None = None) -> Packed:
    """Pack every shard, which frees the space of all that is not needed any more.

    Raises DirectoryInUse while a server runs, and ValueError where anything is damaged that has to be read for it;
    then that file stays as it is.
    """
    disk, began = disk or Disk(), time.monotonic()
    layout = _layout_of(data_dir)
    fd = own(data_dir, lock_of(data_dir))
    try:
        prepare(data_dir, layout.shard_count, disk)
        before = sum(map(os.path.getsize, layout.shards()))
        with closing(Shared(disk, 1)) as shared:
            for number in range(layout.shard_count):
                with closing(open_file(layout, number, shared)) as storage:
                    _pack_shard(storage, disk, shared.committing)
        after = sum(map(os.path.getsize, layout.shards()))
    finally:
        os.close(fd)
    return Packed(before, after, time.monotonic() - began)


def _pack_shard(storage: EarlyFS, disk: Disk, threads: Threads) -> None:
    _check_current(storage)
    if not len(storage):
        return
    try:
        pack_storage(storage, disk, threads, Copying(storage, disk, gc=True))
    except CorruptedError as exc:
        raise ValueError(f"{storage.getName()} is not packed, it is damaged: {exc}") from exc
    storage.garbage_bytes = 0


def _check_current(storage: EarlyFS) -> None:
    """A damaged record could refer to other objects than it did, and what it referred to would be taken for garbage."""
    for oid in storage._index:
        try:
            storage.load(oid)
        except RecordDamaged as exc:
            raise DirectoryDamaged(storage.getName(), exc.position, exc.what) from exc
        except POSKeyError:
            # It has been deleted.
            continue
