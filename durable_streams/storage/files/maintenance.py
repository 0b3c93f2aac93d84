"""What operators do with a data directory: verify it, back it up, restore a backup, compact it.

All but compacting may be done while a server owns the directory and writes to it (docs/storage-files.md, "Reading a
directory that is in use"). A backup is a data directory like any other.
"""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from durable_streams.storage.files.checkpoints import find_checkpoints
from durable_streams.storage.files.index import NOWHERE, OWN_FILE, Index, Record
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
from durable_streams.storage.files.tuning import Tuning
from durable_streams.storage.on_disk.directory import DirectoryDamaged, names_in
from durable_streams.storage.on_disk.disk import Disk, sync_file
from durable_streams.storage.on_disk.report import Report

PIECE_BYTES: Final = 32 * BLOCK_BYTES


def verify(data_dir: Path, disk: Disk | None = None) -> Report:
    """Read every byte and check every checksum; raises WrongLayout when ``data_dir`` is no data directory."""
    disk, layout, report = disk or Disk(), Layout(data_dir), Report()
    check_version(layout, disk)
    with deletions_held(layout):
        index = Index()
        try:
            loaded = load(disk, layout, index, lambda records: None)
        except DirectoryDamaged as exc:
            report.problems.append(str(exc))
            return report
        if loaded.end is not None:
            report.commits, report.torn_bytes = loaded.end.seq, loaded.end.cut
        for record in index.streams.values():
            report.streams += 1
            report.payload_bytes += record.state.own_bytes
            _verify_payload(disk, layout, record, report)
            _verify_source(index, record, report)
    return report


def _verify_payload(disk: Disk, layout: Layout, record: Record, report: Report) -> None:
    home, base = record.home, record.state.config.forked_at
    if home.checkpoint == NOWHERE:
        return
    path = ""
    try:
        path, _ = located(layout, record.id, base, home, base, base)
        with closing(_Descriptor(disk, path)) as file:
            # What a checkpoint holds is one piece with one checksum, and smaller than a piece here.
            for start in range(base, home.written, PIECE_BYTES):
                stop = min(home.written, start + PIECE_BYTES)
                _, wanted = located(layout, record.id, base, home, start, stop)
                wanted.payload(disk.read(file.fd, wanted.length, wanted.at))
    except (BytesDamaged, OSError) as exc:
        report.problems.append(f"stream {record.state.name!r} is damaged: {path}: {exc}")


def _verify_source(index: Index, record: Record, report: Report) -> None:
    fork = record.state.config.fork
    if fork is None:
        return
    found = index.streams.get(fork.source)
    source = (found.state.config.uid, found.state.tail) if found else None
    report.check_fork(record.state.name, fork, source)


class _Descriptor:
    def __init__(self, disk: Disk, path: str, *, write: bool = False) -> None:
        self.fd = disk.open(path, write=write)
        self._disk = disk

    def close(self) -> None:
        self._disk.close(self.fd)


def backup(data_dir: Path, target: Path, disk: Disk | None = None) -> Report:
    """Copy the directory, as it is at one moment, into ``target`` and verify the copy.

    ``target`` must be missing or empty: else ValueError. It is no data directory before the copy is whole and durable.
    """
    disk, source, copy = disk or Disk(), Layout(data_dir), Layout(target)
    check_version(source, disk)
    _make_empty(copy, disk)
    with deletions_held(source):
        _copy_all(disk, source, copy)
    disk.sync_dir(str(target.absolute().parent))
    write_version(copy, disk)
    return verify(target, disk)


def restore(source: Path, data_dir: Path, disk: Disk | None = None) -> Report:
    """Make ``data_dir``, which must be missing or empty, what the backup ``source`` is.

    Raises ValueError when it is not empty, or when the backup is damaged; then nothing is restored.
    """
    report = verify(source, disk)
    if report.problems:
        raise ValueError(f"the backup {source} is not restored: {report.problems[0]}")
    return backup(source, data_dir, disk)


def compact(data_dir: Path, disk: Disk | None = None) -> None:
    """Put one checkpoint of everything in the place of the journals and of all older checkpoints.

    Raises DirectoryInUse while a server runs, and ValueError where anything is damaged that has to be read for it.
    """
    disk = disk or Disk()
    # Opening would make a new data directory where there is none.
    check_version(Layout(data_dir), disk)
    storage = FileStorage(data_dir, durable=True, disk=disk, tuning=Tuning(checkpoints_max=1))
    storage.open()
    try:
        storage.checkpoint()
    finally:
        storage.close()


def _make_empty(layout: Layout, disk: Disk) -> None:
    layout.data_dir.mkdir(parents=True, exist_ok=True)
    if names_in(layout.data_dir):
        raise ValueError(f"{layout.data_dir} is not empty")
    for path in (layout.journals, layout.checkpoints, layout.streams):
        disk.make_dir(path)


def _copy_all(disk: Disk, source: Layout, copy: Layout) -> None:
    checkpoints = find_checkpoints(disk, source)
    for file in checkpoints.files:
        _copy(disk, file.path, copy.checkpoint(file.footer.number), file.size)
    numbers = numbered(disk.names(source.journals), ".log")
    # From the newest to the oldest: what has been copied of a newer one was written after all of the older ones.
    for number in reversed([number for number in numbers if number >= checkpoints.footer.journal]):
        _copy(disk, source.journal(number), copy.journal(number), None)
    for id, record in load_records(disk, checkpoints.files).items():
        if record.home.checkpoint == OWN_FILE:
            disk.make_dir(copy.stream_folder(id))
            length = file_position(record.home.written - record.state.config.forked_at)
            # One that is missing concerns one stream; verifying the copy will name it.
            with suppress(FileNotFoundError):
                _copy(disk, source.stream(id), copy.stream(id), length)
    folders = [f"{copy.streams}/{name}" for name in disk.names(copy.streams)]
    for folder in (*folders, copy.journals, copy.checkpoints, copy.streams, copy.root):
        disk.sync_dir(folder)


def _copy(disk: Disk, source: str, target: str, length: int | None) -> None:
    """The first ``length`` bytes of a file, or all that it has now; durable but for its name."""
    with closing(_Descriptor(disk, source)) as old, closing(_Descriptor(disk, target, write=True)) as new:
        end = disk.size(old.fd) if length is None else length
        at = 0
        while at < end:
            data = disk.read(old.fd, min(PIECE_BYTES, end - at), at)
            if not data:
                break
            disk.write(new.fd, [data], at)
            at += len(data)
    sync_file(disk, target)
