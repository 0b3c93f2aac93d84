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

from durable_streams.storage.on_disk.disk import Disk, copy_file, write_file
from durable_streams.storage.on_disk.maintenance import DirectoryMaintenance
from durable_streams.storage.on_disk.report import Report
from durable_streams.storage.on_disk.room import limits_left
from durable_streams.storage.zodb.background import AcidTuning
from durable_streams.storage.zodb.contents import index_path, saved_contents
from durable_streams.storage.zodb.opening import (
    ShardLayout,
    existing_layout,
    make_root,
    root_of,
    shard_of,
    write_layout,
)
from durable_streams.storage.zodb.snapshots import Snapshot, newest_id, streams_in, take_snapshot
from durable_streams.storage.zodb.storage import AcidStorage


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
                snapshot.check()
                path = copy.shard(number)
                copy_file(disk, snapshot.file.fd, path, snapshot.contents.end)
                # Opening is quick with it, and it says that all of the file was whole.
                write_file(disk, index_path(path), snapshot.contents.encode())
        disk.sync_dir(copy.root)
        write_layout(copy, disk)

    def _storage(self, data_dir: Path) -> AcidStorage:
        layout = existing_layout(data_dir)
        tuning, room = AcidTuning(stop_pack_bytes=0), limits_left(layout.root)
        return AcidStorage(data_dir, layout.shard_count, disk=self._disk, tuning=tuning, room=room)

    def _kept_bytes(self, data_dir: Path) -> int:
        paths = existing_layout(data_dir).shards()
        return max(os.path.getsize(path) - saved_contents(path).garbage_bytes for path in paths)


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
