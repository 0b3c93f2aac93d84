"""Where the shards of a data directory lie, who owns it, and opening its storages after whatever a crash has left.

The file ``layout.json`` is written last, so a directory that has one has all of its shards, or has lost some.
FileStorage itself refuses some torn ends and takes others for whole, so they are cut before it sees them:
docs/storage-acid.md, "The directory" and "Opening".
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

from durable_streams.storage.on_disk.directory import DirectoryDamaged, WrongLayout, claim, kind_of
from durable_streams.storage.on_disk.disk import Disk, open_fd, replace_file, says_full, sync_file, write_file
from durable_streams.storage.zodb.contents import Contents, known_contents
from durable_streams.storage.zodb.file_storage import ShardFileStorage, SharedByShards
from durable_streams.storage.zodb.records import MAGIC
from durable_streams.storage.zodb.shard_file import ShardFile

log = logging.getLogger("durable_streams.storage")

FORMAT: Final = "durable-streams acid"
VERSION: Final = 1
LAYOUT_NAME: Final = "layout.json"
HASH: Final = "crc32"


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """What ``layout.json`` says, and where it was found."""

    root: str
    shard_count: int
    salt: bytes
    """Goes into every checksum of the directory."""

    def shard(self, number: int) -> str:
        return os.path.join(self.root, f"{number:03d}.fs")

    def shards(self) -> list[str]:
        return [self.shard(number) for number in range(self.shard_count)]


def shard_of(name: str, shard_count: int) -> int:
    """The number of the shard that a stream belongs to for ever."""
    return crc32(name.encode()) % shard_count


def root_of(data_dir: Path) -> str:
    return str(data_dir / "acid")


def read_layout(data_dir: Path) -> ShardLayout | None:
    """None when there is no ``layout.json``; raises WrongLayout when this server cannot read it."""
    root = root_of(data_dir)
    path = os.path.join(root, LAYOUT_NAME)
    try:
        with open(path, "rb") as file:
            found = json.load(file)
        layout = ShardLayout(root, int(found["shard_count"]), bytes.fromhex(found["salt"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as exc:
        raise WrongLayout(f"{path} cannot be read: {exc!r}") from exc
    for key, expected in _document(layout).items():
        if found.get(key) != expected:
            # With a wrong salt every record would seem to be damaged, and the whole of a file its torn end.
            raise WrongLayout(
                f"{path} is of another version, or damaged: it says {key} {found.get(key)!r} and not {expected!r}"
            )
    return layout


def _document(layout: ShardLayout) -> dict[str, str | int]:
    """What stands in ``layout.json``."""
    document: dict[str, str | int] = {
        "format": FORMAT,
        "version": VERSION,
        "shard_count": layout.shard_count,
        "hash": HASH,
        "salt": layout.salt.hex(),
    }
    return document | {"checksum": crc32(" ".join(map(str, document.values())).encode())}


def existing_layout(data_dir: Path) -> ShardLayout:
    """Raises WrongLayout, or DirectoryDamaged when a shard is missing."""
    layout = read_layout(data_dir)
    if layout is None:
        raise WrongLayout(f"{root_of(data_dir)} holds no file {LAYOUT_NAME!r}: {kind_of(data_dir)}")
    for path in layout.shards():
        if not os.path.exists(path):
            raise DirectoryDamaged(path, 0, "the file is missing")
    return layout


def prepare(data_dir: Path, shard_count: int, disk: Disk) -> ShardLayout:
    """Make the shards of a new directory, or see that they are there; raises WrongLayout or DirectoryDamaged."""
    if read_layout(data_dir) is None:
        _create(ShardLayout(root_of(data_dir), shard_count, os.urandom(8)), disk)
    layout = existing_layout(data_dir)
    if layout.shard_count != shard_count:
        raise WrongLayout(
            f"{layout.root} was made with acid_shard_count = {layout.shard_count} and is opened with {shard_count}:"
            " the number of shards cannot change once data exists"
        )
    # A server that was killed may have given names that are not durable yet: that of a packed file, for one.
    disk.sync_dir(layout.root)
    return layout


def make_root(data_dir: Path, disk: Disk) -> None:
    """Make the directory where there is none; raises WrongLayout where something else lies."""
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    root = root_of(data_dir)
    claim(disk, data_dir, str(data_dir), os.path.basename(root), lambda name: False)
    if not claim(disk, data_dir, root, LAYOUT_NAME, lambda name: _is_remains(os.path.join(root, name))):
        disk.sync_dir(str(data_dir))


def _is_remains(path: str) -> bool:
    """Whether a file without a layout beside it may be from an opening that was not finished."""
    if path.endswith(".fs"):
        return os.path.getsize(path) <= len(MAGIC)
    return path.endswith(("/lock", ".lock", ".tmp"))


def _create(layout: ShardLayout, disk: Disk) -> None:
    for path in layout.shards():
        write_file(disk, path, MAGIC)
    disk.sync_dir(layout.root)
    write_layout(layout, disk)


def write_layout(layout: ShardLayout, disk: Disk) -> None:
    """What makes a directory a data directory, whole or not there."""
    text = json.dumps(_document(layout), indent=2) + "\n"
    replace_file(disk, os.path.join(layout.root, LAYOUT_NAME), text.encode())
    disk.sync_dir(layout.root)


def lock_of(data_dir: Path) -> str:
    return os.path.join(root_of(data_dir), "lock")


def open_file(layout: ShardLayout, number: int, shared: SharedByShards) -> ShardFileStorage:
    """The storage of one shard, its torn tail cut; raises DirectoryDamaged or OSError."""
    path = layout.shard(number)
    _remove_remains(path, shared.disk)
    known = _recover(path, layout.salt, shared.disk)
    # A transaction that is whole and was not synced is served from now on, and an index will say that it is there.
    sync_file(shared.disk, path)
    return ShardFileStorage(path, layout.salt, shared, known)


def _remove_remains(path: str, disk: Disk) -> None:
    """Files that only a crash leaves beside a shard's file."""
    for suffix in (".pack", ".tmp", ".index.tmp"):
        if os.path.exists(path + suffix):
            disk.unlink(path + suffix)


def _recover(path: str, salt: bytes, disk: Disk) -> Contents:
    """Cut the end of a shard's file that is no whole transaction, and keep it beside the file in ``*.cut``.

    Raises DirectoryDamaged when a whole transaction follows. Returns all that is left.
    """
    with closing(ShardFile(path, salt, disk)) as file:
        file.check_magic()
        contents = known_contents(file)
        contents.read_on(file)
        if contents.damage is not None:
            contents.check_end(file)
            torn, what = file.size - contents.end, contents.damage.what
            log.warning("%s: %d bytes cut at byte %d: %s", path, torn, contents.end, what)
            _cut(file, contents.end, disk)
    return contents


def _cut(file: ShardFile, position: int, disk: Disk) -> None:
    kept = file.path + ".cut"
    try:
        write_file(disk, kept, file.read(file.size - position, position))
    except OSError as exc:
        if not says_full(exc):
            raise
        # It was for people: nobody was answered for these bytes.
        log.warning("%s: what is cut is not kept: %s", file.path, exc)
        disk.unlink(kept)
    with open_fd(disk, file.path, write=True) as fd:
        disk.truncate(fd, position)
        disk.sync(fd)
    disk.sync_dir(os.path.dirname(file.path))
