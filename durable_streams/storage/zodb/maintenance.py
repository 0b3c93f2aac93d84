"""Maintenance of a data directory of the acid mode: reading, copying and packing its shards.

Nothing before the end of a shard's file ever changes, and a file that a pack has replaced can be read to its end; so
all but packing may be done while a server writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from ZODB.utils import newTid

from durable_streams.storage.on_disk.directory import own
from durable_streams.storage.on_disk.disk import Disk, copy_file, write_file
from durable_streams.storage.on_disk.maintenance import DirectoryMaintenance
from durable_streams.storage.on_disk.report import Report
from durable_streams.storage.on_disk.room import Room, limits_left
from durable_streams.storage.zodb.contents import index_path, saved_contents
from durable_streams.storage.zodb.file_storage import SharedByShards
from durable_streams.storage.zodb.opening import (
    ShardLayout,
    existing_layout,
    lock_of,
    make_root,
    open_file,
    prepare,
    root_of,
    shard_of,
    write_layout,
)
from durable_streams.storage.zodb.packing import Packing
from durable_streams.storage.zodb.snapshots import Snapshot, newest_id, streams_in, take_snapshot


class AcidMaintenance(DirectoryMaintenance):
    """See ``DirectoryMaintenance``."""

    def _check(self, data_dir: Path) -> None:
        existing_layout(data_dir)

    def _read(self, data_dir: Path, report: Report) -> None:
        layout = existing_layout(data_dir)
        with _snapshots(layout, self._disk) as snapshots:
            for number, snapshot in enumerate(snapshots):
                report.commits += snapshot.contents.transactions
                report.torn_bytes += snapshot.torn_bytes
                if snapshot.problem is not None:
                    report.problems.append(str(snapshot.problem))
                for state in streams_in(snapshot, report.problems):
                    report.add(state)
                    if shard_of(state.name, layout.shard_count) != number:
                        report.problems.append(
                            f"stream {state.name!r} is in shard {number}, which is not its own"
                        )

    def _copy(self, data_dir: Path, target: Path) -> None:
        source, disk = existing_layout(data_dir), self._disk
        make_root(target, disk)
        copy = ShardLayout(root_of(target), source.shard_count, source.salt)
        with _snapshots(source, disk) as snapshots:
            for number, snapshot in enumerate(snapshots):
                if snapshot.problem is not None:
                    raise snapshot.problem
                path = copy.shard(number)
                copy_file(disk, snapshot.file.fd, path, snapshot.contents.end)
                # Opening is quick with it, and it says that all of the file was whole.
                write_file(disk, index_path(path), snapshot.contents.encode())
        disk.sync_dir(copy.root)
        write_layout(copy, disk)

    def _compact(self, data_dir: Path) -> None:
        """Pack every shard, and drop what nothing refers to."""
        layout, disk = existing_layout(data_dir), self._disk
        fd = own(data_dir, lock_of(data_dir))
        try:
            prepare(data_dir, layout.shard_count, disk)
            room = Room(disk, layout.root, limits_left(layout.root))
            room.open()
            with closing(SharedByShards(disk, 1)) as shared:
                for number in range(layout.shard_count):
                    _pack_shard(layout, number, shared, room)
        finally:
            os.close(fd)

    def _kept_bytes(self, data_dir: Path) -> int:
        paths = existing_layout(data_dir).shards()
        return max(os.path.getsize(path) - saved_contents(path).garbage_bytes for path in paths)


def _pack_shard(layout: ShardLayout, number: int, shared: SharedByShards, room: Room) -> None:
    # A damaged record could refer to other objects than it did, and what it referred to would be taken for garbage.
    with closing(take_snapshot(layout.shard(number), layout.salt, shared.disk)) as snapshot:
        if snapshot.problem is not None:
            raise snapshot.problem
    with closing(open_file(layout, number, shared)) as storage:
        if len(storage):
            room.free_up(lambda: Packing(storage, gc=True).run())
            storage.garbage.bytes = 0


@contextmanager
def _snapshots(layout: ShardLayout, disk: Disk) -> Iterator[Sequence[Snapshot]]:
    """All shards as they were at one moment.

    A change in one shard can rest on one in another that had been answered before it began, a fork on the reference
    that its source holds. Transaction ids grow over all shards; so whatever a transaction up to ``newest`` rests on
    was in its file when the files are looked at for the second time, and has a smaller id.
    """
    newest = newTid(max(newest_id(path, layout.salt, disk) for path in layout.shards()))
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(take_snapshot(path, layout.salt, disk, newest)))
            for path in layout.shards()
        ]
