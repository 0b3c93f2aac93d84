"""Every call to the disk fails once, in a run that uses them all: nothing is half done, nothing promised is lost."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from durable_streams.protocol.errors import StreamDamaged
from durable_streams.protocol.requests import Remove
from tests.acid.driving import commit, opened, pack_all
from tests.disk.recording import FaultyDisk
from tests.engines.driving import append, create, decide, read_all, record
from tests.servers import ROOT

"""What is committed, one batch after the other, and what is done between them."""


def test_a_sync_that_fails_stops_all_writing_of_its_shard_and_leaves_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1)
    disk = FaultyDisk(set(), 0)
    with opened(tmp_path / "data", 2, disk=disk) as storage:
        commit(storage, create("a", b"before"))
        other = next(name for name in "bcdefgh" if storage.shard_of(name) != storage.shard_of("a"))
        disk.kinds = {"sync"}
        with pytest.raises(OSError, match="Input/output error"):
            commit(storage, append("a", b"unknown"))
        disk.kinds = set()
        assert storage.failed
        with pytest.raises(RuntimeError, match="the storage has failed"):
            commit(storage, append("a", b"refused"))
        assert read_all(storage, "a") == b"before"
        commit(storage, create(other, b"goes on"))
        with pytest.raises(RuntimeError, match="the storage has failed"):
            pack_all(storage)


KILLED_IN_A_COMMIT = """
from gevent import monkey; monkey.patch_all()
import os, sys
from pathlib import Path
import gevent
from tests.acid.driving import commit, opened
from tests.disk.recording import HastyDisk
from tests.engines.driving import append, create, read_all

class HeldDisk(HastyDisk):
    begun = False
    def write(self, fd, parts, position):
        if sum(map(len, parts)) > 500_000:
            self.begun = True
            os.read(held, 1)
        super().write(fd, parts, position)

held, let_go = os.pipe()
disk, data_dir = HeldDisk(), Path(sys.argv[1])
with opened(data_dir, disk=disk) as storage:
    commit(storage, create("a", b"before"))
    committing = gevent.spawn(commit, storage, append("a", bytes(1_000_000)))
    while not disk.begun:
        gevent.sleep(0.001)
    committing.kill()
    print(storage.failed)
    try:
        commit(storage, create("b"))
    except RuntimeError as exc:
        print(exc)
    os.write(let_go, b".")
    print(read_all(storage, "a"))
"""


def test_who_is_killed_in_a_commit_leaves_a_shard_that_writes_no_more(tmp_path: Path) -> None:
    """The thread that writes for it goes on, so nobody else may write to the same place."""
    command = [sys.executable, "-c", KILLED_IN_A_COMMIT, str(tmp_path / "data")]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines() == ["True", "the storage has failed", "b'before'"]
    with opened(tmp_path / "data") as storage:
        assert read_all(storage, "a") == b"before"


def test_a_stream_that_could_not_be_read_once_is_changed_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile it is left out, so that a batch that is decided again goes on without it."""
    caplog.set_level(logging.CRITICAL)
    now = 100.0
    monkeypatch.setattr("durable_streams.storage.zodb.shard.monotonic", lambda: now)
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s", b"s" * 3000))
    disk = FaultyDisk(set(), 0)
    with opened(tmp_path / "data", disk=disk) as storage:
        assert storage.known("s") is not None
        disk.kinds = {"read", "read_cached"}
        assert record(storage, decide(storage, [append("s", bytes(100_000)), create("other")])) == {"s"}
        disk.kinds = set()
        with pytest.raises(StreamDamaged) as refused:
            storage.known("s")
        assert "stream 's': OSError(5" in refused.value.cause
        commit(storage, append("other", b"goes on"))
        now += 1.5
        commit(storage, append("s", b"!"))
        assert read_all(storage, "s") == b"s" * 3000 + b"!"


def test_a_pack_that_finds_no_room_takes_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    disk = FaultyDisk(set(), 0, errno.ENOSPC, for_good=True)
    with opened(tmp_path / "data", disk=disk) as storage:
        commit(storage, create("s", bytes(200_000)), create("gone", bytes(200_000)))
        commit(storage, Remove("gone"))
        commit(storage, append("s", b"!"))
        disk.calls, disk.fail_at, disk.kinds = 0, 1, {"write"}
        with pytest.raises(OSError, match="No space left"):
            pack_all(storage)
        assert disk.failed
        assert not (tmp_path / "data" / "acid" / "000.fs.pack").exists()
        disk.kinds = set()
        pack_all(storage)
        assert read_all(storage, "s") == bytes(200_000) + b"!"
