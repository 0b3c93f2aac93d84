"""Maintenance of a data directory of the file modes: reading, copying and checkpointing it.

All but compacting may be done while a server writes (docs/storage-files.md, "Reading a directory that is in use").
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from durable_streams.storage.files.checkpoints import find_checkpoints
from durable_streams.storage.files.index import NOWHERE, STREAM_FILE, Index, Record
from durable_streams.storage.files.layout import (
    Layout,
    check_version,
    deletions_held,
    numbered,
    write_version,
)
from durable_streams.storage.files.reading import located
from durable_streams.storage.files.recovery import load, load_records
from durable_streams.storage.files.segments import BLOCK_BYTES, BytesDamaged, file_position
from durable_streams.storage.files.storage import FileStorage
from durable_streams.storage.files.tuning import FileTuning
from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import Disk, copy_file, open_fd
from durable_streams.storage.on_disk.maintenance import DirectoryMaintenance
from durable_streams.storage.on_disk.report import Report
from durable_streams.storage.on_disk.room import STREAM_BYTES, limits_left

VERIFIED_AT_ONCE: Final = 32 * BLOCK_BYTES
"""Bytes."""


class FileMaintenance(DirectoryMaintenance):
    """See ``DirectoryMaintenance``."""

    def _check(self, data_dir: Path) -> None:
        check_version(Layout(data_dir), self._disk)

    def _read(self, data_dir: Path, report: Report) -> None:
        self._check(data_dir)
        layout, index = Layout(data_dir), Index()
        with deletions_held(layout):
            try:
                loaded = load(self._disk, layout, index, lambda records: None)
            except DirectoryDamaged as exc:
                report.problems.append(str(exc))
                return
            if loaded.end is not None:
                report.commits, report.torn_bytes = loaded.end.seq, loaded.end.torn_bytes
            for record in index.streams.values():
                report.add(record.state)
                _verify_payload(self._disk, layout, record, report)

    def _copy(self, data_dir: Path, target: Path) -> None:
        disk, source, copy = self._disk, Layout(data_dir), Layout(target)
        for path in (copy.journals, copy.checkpoints, copy.streams):
            disk.make_dir(path)
        with deletions_held(source):
            _copy_all(disk, source, copy)
        disk.sync_dir(str(target.absolute().parent))
        write_version(copy, disk)

    def _storage(self, data_dir: Path) -> FileStorage:
        tuning, room = FileTuning(checkpoints_max=1), limits_left(str(data_dir))
        return FileStorage(data_dir, durable=True, disk=self._disk, tuning=tuning, room=room)

    def _kept_bytes(self, data_dir: Path) -> int:
        index = Index()
        load(self._disk, Layout(data_dir), index, lambda records: None)
        small = (record for record in index.streams.values() if record.location.checkpoint != STREAM_FILE)
        return len(index.streams) * STREAM_BYTES + sum(record.state.own_bytes for record in small)


def _verify_payload(disk: Disk, layout: Layout, record: Record, report: Report) -> None:
    location, base = record.location, record.state.config.forked_at
    if location.checkpoint == NOWHERE:
        return
    path = ""
    try:
        path, _ = located(layout, record.id, base, location, base, base)
        with open_fd(disk, path) as fd:
            # What a checkpoint holds has one checksum, and is less than is verified at once.
            for start in range(base, location.written, VERIFIED_AT_ONCE):
                stop = min(location.written, start + VERIFIED_AT_ONCE)
                _, wanted = located(layout, record.id, base, location, start, stop)
                wanted.payload(disk.read(fd, wanted.length, wanted.at))
    except (BytesDamaged, OSError) as exc:
        report.problems.append(f"stream {record.state.name!r} is damaged: {path}: {exc}")


def _copy_all(disk: Disk, source: Layout, copy: Layout) -> None:
    checkpoints = find_checkpoints(disk, source)
    for file in checkpoints.files:
        _copy(disk, file.path, copy.checkpoint(file.footer.number), file.size)
    numbers = numbered(disk.names(source.journals), ".log")
    # From the newest to the oldest: what has been copied of a newer one was written after all of the older ones.
    for number in reversed([number for number in numbers if number >= checkpoints.footer.journal]):
        _copy(disk, source.journal(number), copy.journal(number), None)
    for id, record in load_records(disk, checkpoints.files).items():
        if record.location.checkpoint == STREAM_FILE:
            disk.make_dir(copy.stream_folder(id))
            length = file_position(record.location.written - record.state.config.forked_at)
            # One that is missing concerns one stream; verifying the copy will name it.
            with suppress(FileNotFoundError):
                _copy(disk, source.stream(id), copy.stream(id), length)
    folders = [f"{copy.streams}/{name}" for name in disk.names(copy.streams)]
    for folder in (*folders, copy.journals, copy.checkpoints, copy.streams, copy.root):
        disk.sync_dir(folder)


def _copy(disk: Disk, source: str, target: str, length: int | None) -> None:
    with open_fd(disk, source) as fd:
        copy_file(disk, fd, target, length)
