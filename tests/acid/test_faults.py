"""Every call to the disk fails once, in a run that uses them all: nothing is half done, nothing promised is lost."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from durable_streams.protocol.errors import ProtocolError, StorageFull, StreamDamaged, Unavailable
from durable_streams.protocol.requests import Remove, Request
from durable_streams.storage.contract import Change
from durable_streams.storage.zodb import AcidStorage
from tests.acid.driving import QUIET, build, by_shard, commit, opened, pack_all
from tests.disk.recording import FaultyDisk
from tests.files.driving import Contents, Model, append, contents, create, decide, read_all, record
from tests.servers import ROOT

CALLS = {"open", "read", "write", "truncate", "sync", "sync_dir", "rename", "unlink"}
SHARDS = 2

BATCHES: Sequence[Sequence[Request] | str] = (
    [create("small", b"1"), create("large", bytes(5000)), create("gone", bytes(70_000))],
    [append("small", b"2"), append("large", bytes(70_000))],
    "save the indexes",
    [Remove("gone"), append("small", b"3" * 2000), create("tiny", b"t")],
    [append("large", b"more"), append("tiny", b"u")],
    "pack",
    [append("small", b"4"), append("large", bytes(3000))],
)
"""What is committed, one batch after the other, and what is done between them."""


class Life:
    """One run of ``BATCHES`` on a disk that fails, up to the end of the storage."""

    def __init__(self, data_dir: Path, disk: FaultyDisk) -> None:
        self.model = Model()
        self.in_doubt: dict[int, Model] = {}
        """By shard: what is there if the transaction whose outcome is unknown was kept."""
        self.refused: list[type[Exception]] = []
        self._disk = disk
        self._storage = build(data_dir, SHARDS, disk=disk)

    def run(self) -> None:
        try:
            self._storage.open()
        except OSError as exc:
            self.refused.append(type(exc))
            return
        for batch in BATCHES:
            if isinstance(batch, str):
                self._maintain(batch)
            else:
                self._commit(batch)
            self._check()
        self._storage.close()

    def _check(self) -> None:
        """Readers are served what has been answered; that reads may fail too is another test."""
        kinds, self._disk.kinds = self._disk.kinds, set()
        assert contents(self._storage) == self.model.contents
        self._disk.kinds = kinds

    def _maintain(self, what: str) -> None:
        for background in self._storage._background.shards:
            try:
                background.pack() if what == "pack" else background.save_index()
            except (OSError, RuntimeError) as exc:
                self.refused.append(type(exc))

    def _commit(self, requests: Sequence[Request]) -> None:
        # Streams that an earlier fault has kept from being made are not there to be appended to.
        for shard, changes in by_shard(self._storage, decide(self._storage, requests)):
            self._commit_part(shard, changes)

    def _commit_part(self, shard: int, changes: list[Change]) -> None:
        after = Model()
        after.contents = self.model.copy()
        after.apply(changes)
        try:
            lost = record(self._storage, changes, shard)
        except ProtocolError as exc:
            self.refused.append(type(exc))
        except (OSError, RuntimeError) as exc:
            self.refused.append(type(exc))
            assert self._storage.failed
            if shard not in self.in_doubt and isinstance(exc, OSError):
                self.in_doubt[shard] = after
        else:
            assert shard not in self.in_doubt, "after an unknown outcome nothing must be accepted"
            if lost:
                # What could not be read is left alone for a while, which is over here.
                self.refused.append(StreamDamaged)
                self._storage._shards[shard]._damaged.clear()
            self.model.apply([change for change in changes if change.name not in lost])

    def possible(self, shard: int) -> list[Contents]:
        """What may be found in a shard."""
        models = [self.model, *([self.in_doubt[shard]] if shard in self.in_doubt else [])]
        return [in_shard(self._storage, model.contents, shard) for model in models]


def in_shard(storage: AcidStorage, found: Contents, shard: int) -> Contents:
    return {name: held for name, held in found.items() if storage.shard_of(name) == shard}


def check_reopened(data_dir: Path, life: Life) -> None:
    """On a disk that works again."""
    with opened(data_dir, SHARDS) as storage:
        found = contents(storage)
        for shard in range(SHARDS):
            assert in_shard(storage, found, shard) in life.possible(shard)
        commit(storage, create("later", b"works"))
    with opened(data_dir, SHARDS) as storage:
        assert read_all(storage, "later") == b"works"


def calls_of(tmp_path: Path, kinds: set[str]) -> int:
    disk = FaultyDisk(kinds)
    life = Life(tmp_path / "without fault", disk)
    life.run()
    assert not life.refused
    return disk.calls


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "from then on"])
def test_a_fault_at_any_call_loses_nothing_promised(
    tmp_path: Path, error: int, for_good: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1)
    calls = calls_of(tmp_path, CALLS)
    assert calls > 100
    for number in range(calls):
        disk = FaultyDisk(CALLS, number, error, for_good=for_good)
        life = Life(tmp_path / str(number), disk)
        try:
            life.run()
            check_reopened(tmp_path / str(number), life)
        except BaseException:
            print(f"fault at call {number} of {calls}, a {disk.failed}; refused: {life.refused}")
            raise


def test_a_full_disk_refuses_what_has_no_room_and_serves_again_when_there_is_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    disk = FaultyDisk(set(), 0, errno.ENOSPC, for_good=True)
    with opened(tmp_path / "data", disk=disk) as storage:
        commit(storage, create("a", b"before"))
        for body in (b"no room", bytes(100_000), bytes(5000)):
            disk.kinds = {"write"}
            with pytest.raises(StorageFull):
                commit(storage, append("a", body))
            assert not storage.failed
            disk.kinds = set()
            assert read_all(storage, "a") == b"before"
        commit(storage, append("a", b" and after"))
        assert read_all(storage, "a") == b"before and after"
    with opened(tmp_path / "data") as storage:
        assert read_all(storage, "a") == b"before and after"


def test_a_write_that_fails_otherwise_keeps_nothing_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    disk = FaultyDisk(set(), 0)
    with opened(tmp_path / "data", disk=disk) as storage:
        commit(storage, create("a", b"before"))
        disk.kinds = {"write"}
        with pytest.raises(Unavailable):
            commit(storage, append("a", b"refused"))
        commit(storage, append("a", b" and after"))
        assert read_all(storage, "a") == b"before and after"


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
from tests.files.driving import append, create, read_all

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
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines() == ["True", "the storage has failed", "b'before'"]
    with opened(tmp_path / "data") as storage:
        assert read_all(storage, "a") == b"before"


def test_a_read_that_fails_concerns_that_stream_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    disk = FaultyDisk(set(), 0)
    with opened(tmp_path / "data", disk=disk) as storage:
        commit(storage, create("large", bytes(200_000)), create("other", b"o"))
        assert read_all(storage, "other") == b"o"
        disk.calls, disk.kinds = 0, {"read", "read_cached"}
        with pytest.raises(StreamDamaged):
            read_all(storage, "large")
        disk.kinds = set()
        assert read_all(storage, "large") == bytes(200_000)


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


def test_every_call_of_an_opening_may_fail_and_the_next_opening_succeeds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1)
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s", b"s"), create("large", bytes(100_000)))
        expected = contents(storage)
    file = tmp_path / "data" / "acid" / "000.fs"
    with file.open("ab") as torn:
        torn.write(b"torn")
    torn_file = file.read_bytes()
    number, failed = 0, True
    while failed:
        file.write_bytes(torn_file)
        disk = FaultyDisk(CALLS, number)
        storage = AcidStorage(tmp_path / "data", 1, disk=disk, tuning=QUIET)
        try:
            storage.open()
        except OSError:
            pass
        else:
            storage.close()
        failed, number = disk.failed is not None, number + 1
        with opened(tmp_path / "data") as storage:
            assert contents(storage) == expected
    assert number > 10


def test_a_torn_end_is_cut_on_a_disk_that_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s", b"kept"))
    with (tmp_path / "data" / "acid" / "000.fs").open("ab") as file:
        file.write(b"torn")
    disk = FaultyDisk({"write"}, 0, errno.ENOSPC, for_good=True)
    with opened(tmp_path / "data", disk=disk) as storage:
        assert read_all(storage, "s") == b"kept"
        with pytest.raises(StorageFull):
            commit(storage, append("s", b" and more"))
        disk.kinds = set()
        commit(storage, append("s", b" and more"))
    with opened(tmp_path / "data") as storage:
        assert read_all(storage, "s") == b"kept and more"


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
