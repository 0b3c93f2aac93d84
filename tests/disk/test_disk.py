"""The real disk does what its callers rely on, also where the operating system does less than it was asked."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from durable_streams.storage.files import Disk
from durable_streams.storage.on_disk.disk import Part, says_full


def test_many_parts_are_written_one_behind_the_other(tmp_path: Path) -> None:
    disk = Disk()
    parts = [b"%d," % number for number in range(5000)]
    fd = disk.open(str(tmp_path / "file"), write=True)
    disk.write(fd, [b"head", *parts], 3)
    disk.sync(fd)
    assert disk.read(fd, 10**6, 3) == b"head" + b"".join(parts)
    assert disk.size(fd) == 3 + 4 + sum(map(len, parts))
    disk.close(fd)


def test_a_write_that_was_done_in_part_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    fd = disk.open(str(tmp_path / "file"), write=True)

    def write_little(fd: int, parts: Sequence[Part], position: int) -> int:
        return os.pwrite(fd, b"".join(parts)[:5], position)

    monkeypatch.setattr(os, "pwritev", write_little)
    disk.write(fd, [b"abc", b"defgh", b"ij"], 0)
    assert disk.read(fd, 100, 0) == b"abcdefghij"
    disk.close(fd)


def test_a_read_that_was_done_in_part_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    fd = disk.open(str(tmp_path / "file"), write=True)
    disk.write(fd, [b"0123456789"], 0)
    read_all = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, position: read_all(fd, min(length, 4), position))
    assert disk.read(fd, 10, 0) == b"0123456789"
    assert disk.read(fd, 100, 8) == b"89"
    disk.close(fd)


def test_what_is_not_in_memory_is_told_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    fd = disk.open(str(tmp_path / "file"), write=True)
    disk.write(fd, [b"0123"], 0)
    buffer = bytearray(4)
    assert disk.read_cached(fd, memoryview(buffer), 0)
    assert buffer == b"0123"
    assert not disk.read_cached(fd, memoryview(buffer), 1)

    errors = [errno.EAGAIN, errno.EOPNOTSUPP, errno.EIO]

    def fail(*arguments: object) -> int:
        error = errors.pop(0)
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "preadv", fail)
    assert not disk.read_cached(fd, memoryview(buffer), 0)
    assert not disk.read_cached(fd, memoryview(buffer), 0)
    with pytest.raises(OSError, match="Input/output error"):
        disk.read_cached(fd, memoryview(buffer), 0)
    disk.close(fd)


def test_folders_and_names(tmp_path: Path) -> None:
    disk, folder = Disk(), str(tmp_path / "folder")
    assert disk.names(folder) == []
    assert disk.make_dir(folder)
    assert not disk.make_dir(folder)
    for name in ("b", "a"):
        disk.close(disk.open(f"{folder}/{name}", write=True))
    disk.sync_dir(folder)
    assert disk.names(folder) == ["a", "b"]
    disk.rename(f"{folder}/a", f"{folder}/c")
    disk.unlink(f"{folder}/b")
    disk.unlink(f"{folder}/b")
    assert disk.names(folder) == ["c"]
    with pytest.raises(FileNotFoundError):
        disk.open(f"{folder}/b")


@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)])
def test_a_full_disk_is_told_from_a_broken_one(number: int, full: bool) -> None:
    assert says_full(OSError(number, os.strerror(number))) is full
