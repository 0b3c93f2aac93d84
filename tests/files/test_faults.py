"""Every call to the disk fails once, in a run that uses them all: nothing is half done, nothing promised is lost."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from durable_streams.protocol.errors import ProtocolError, StorageFull, StreamDamaged, Unavailable
from durable_streams.protocol.requests import Remove, Request
from durable_streams.storage.files import FileStorage
from tests.disk.recording import FaultyDisk, HastyDisk
from tests.files.driving import (
    SMALL,
    Model,
    append,
    commit,
    contents,
    copy_of,
    create,
    decide,
    opened,
    read_all,
    record,
)

CALLS = {"open", "read", "write", "truncate", "sync", "sync_dir", "rename", "unlink"}

BATCHES: Sequence[Sequence[Request] | None] = (
    [create("small", b"1"), create("large", bytes(500)), create("gone", bytes(700))],
    [append("small", b"2"), append("large", bytes(200))],
    None,
    [Remove("gone"), append("small", b"3" * 200), create("tiny", b"t")],
    [append("large", b"more"), append("tiny", b"u")],
    None,
    [append("small", b"4")],
)
"""What is committed, one batch after the other; None stands for a checkpoint."""


class Life:
    """One run of ``BATCHES`` on a disk that fails, up to the end of the storage."""

    def __init__(self, data_dir: Path, durable: bool, disk: FaultyDisk) -> None:
        self.model = Model()
        self.in_doubt: Model | None = None
        """What is there if the batch whose outcome is unknown was kept."""
        self.refused: list[type[Exception]] = []
        self._disk = disk
        self._storage = FileStorage(data_dir, durable, disk=disk, tuning=SMALL)

    def run(self) -> None:
        try:
            self._storage.open()
        except OSError as exc:
            self.refused.append(type(exc))
            return
        for requests in BATCHES:
            if requests is None:
                self._checkpoint()
            else:
                self._commit(requests)
            self._check()
        self._storage.close()

    def _check(self) -> None:
        """Readers are served what has been answered; that reads may fail too is another test."""
        kinds, self._disk.kinds = self._disk.kinds, set()
        assert contents(self._storage) == self.model.contents
        self._disk.kinds = kinds

    def _checkpoint(self) -> None:
        try:
            self._storage.checkpoint()
        except OSError as exc:
            self.refused.append(type(exc))

    def _commit(self, requests: Sequence[Request]) -> None:
        # Streams that an earlier fault has kept from being made are not there to be appended to.
        changes = decide(self._storage, requests)
        if not changes:
            return
        after = Model()
        after.contents = self.model.copy()
        after.apply(changes)
        try:
            record(self._storage, changes)
        except ProtocolError as exc:
            self.refused.append(type(exc))
        except OSError as exc:
            self.refused.append(type(exc))
            self.in_doubt = after
            assert self._storage.failed
        else:
            assert self.in_doubt is None, "after an unknown outcome nothing must be accepted"
            self.model = after


def check_reopened(data_dir: Path, durable: bool, life: Life) -> None:
    """On a disk that works again."""
    with opened(data_dir, durable, tuning=SMALL) as storage:
        found = contents(storage)
        possible = [life.model.contents, *([life.in_doubt.contents] if life.in_doubt else [])]
        assert found in possible
        commit(storage, create("later", b"works"))
    with opened(data_dir, durable, tuning=SMALL) as storage:
        assert read_all(storage, "later") == b"works"


def calls_of(tmp_path: Path, durable: bool, kinds: set[str]) -> int:
    disk = FaultyDisk(kinds)
    life = Life(tmp_path / "without fault", durable, disk)
    life.run()
    assert not life.refused
    return disk.calls


@pytest.mark.parametrize("durable", [True, False], ids=["file-durable", "file-fast"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "from then on"])
def test_a_fault_at_any_call_loses_nothing_promised(
    tmp_path: Path, durable: bool, error: int, for_good: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    calls = calls_of(tmp_path, durable, CALLS)
    assert calls > 60
    for number in range(calls):
        disk = FaultyDisk(CALLS, number, error, for_good=for_good)
        life = Life(tmp_path / str(number), durable, disk)
        try:
            life.run()
            check_reopened(tmp_path / str(number), durable, life)
        except BaseException:
            print(f"fault at call {number} of {calls}, a {disk.failed}; refused: {life.refused}")
            raise


def test_a_full_disk_refuses_what_has_no_room_and_serves_again_when_there_is_some(tmp_path: Path) -> None:
    disk = FaultyDisk({"write"}, 0, errno.ENOSPC, for_good=True)
    disk.kinds = set()
    with opened(tmp_path / "data", disk=disk, tuning=SMALL) as storage:
        commit(storage, create("a", b"before"))
        disk.kinds = {"write"}
        for _ in range(3):
            with pytest.raises(StorageFull):
                commit(storage, append("a", b"no room"))
        with pytest.raises(OSError, match="No space left"):
            storage.checkpoint()
        assert read_all(storage, "a") == b"before"
        disk.kinds = set()
        commit(storage, append("a", b" and after"))
        storage.checkpoint()
        assert read_all(storage, "a") == b"before and after"
    with opened(tmp_path / "data") as storage:
        assert read_all(storage, "a") == b"before and after"


def test_a_disk_that_became_full_while_a_journal_was_made_can_be_opened(tmp_path: Path) -> None:
    disk = FaultyDisk({"write"}, 0, errno.ENOSPC, for_good=True)
    disk.kinds = set()
    with opened(tmp_path / "data", disk=disk) as storage:
        commit(storage, create("a", b"kept"))
        disk.kinds = {"write"}
        with pytest.raises(OSError, match="No space left"):
            storage.checkpoint()
        killed = copy_of(tmp_path / "data", tmp_path / "killed")
        disk.kinds = set()
    full = FaultyDisk({"write"}, 0, errno.ENOSPC, for_good=True)
    with opened(killed, disk=full) as storage:
        assert read_all(storage, "a") == b"kept"
        with pytest.raises(StorageFull):
            commit(storage, append("a", b" and more"))
        full.kinds = set()
        commit(storage, append("a", b" and more"))
        storage.checkpoint()
    with opened(killed) as storage:
        assert read_all(storage, "a") == b"kept and more"


def test_a_sync_that_fails_stops_all_writing_and_leaves_reading(tmp_path: Path) -> None:
    disk = FaultyDisk(set(), 0)
    with opened(tmp_path / "data", disk=disk) as storage:
        commit(storage, create("a", b"before"))
        disk.kinds = {"sync"}
        with pytest.raises(OSError, match="Input/output error"):
            commit(storage, append("a", b"unknown"))
        disk.kinds = set()
        assert storage.failed
        with pytest.raises(Unavailable):
            commit(storage, append("a", b"refused"))
        assert read_all(storage, "a") == b"before"


def test_a_read_that_fails_concerns_that_read_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = FaultyDisk(set(), 0)
    with opened(tmp_path / "data", disk=disk, tuning=SMALL) as storage:
        commit(storage, create("small", b"s"), create("large", bytes(1000)))
        storage.checkpoint()
        for name in ("small", "large"):
            held = read_all(storage, name)
            disk.calls, disk.kinds = 0, {"read"}
            with caplog.at_level(logging.CRITICAL), pytest.raises(StreamDamaged):
                read_all(storage, name)
            assert read_all(storage, name) == held
            disk.kinds = set()


def test_every_read_of_an_opening_may_fail_and_the_next_opening_succeeds(tmp_path: Path) -> None:
    with opened(tmp_path / "data", tuning=SMALL) as storage:
        commit(storage, create("small", b"s"), create("large", bytes(1000)))
        storage.checkpoint()
        commit(storage, append("small", b"t"))
        expected = contents(storage)
    disk = FaultyDisk({"read", "open"})
    with opened(tmp_path / "data", disk=disk):
        pass
    for number in range(disk.calls):
        failing = FaultyDisk({"read", "open"}, number)
        storage = FileStorage(tmp_path / "data", True, disk=failing, tuning=SMALL)
        try:
            storage.open()
        except OSError:
            pass
        else:
            storage.close()
        with opened(tmp_path / "data") as storage:
            assert contents(storage) == expected


def test_small_payload_that_cannot_be_read_costs_one_checkpoint_and_then_that_stream_alone(
    tmp_path: Path,
) -> None:
    disk = FaultyDisk(set(), 0, for_good=True)
    with opened(tmp_path / "data", disk=disk, tuning=SMALL) as storage:
        commit(storage, create("lost", b"lost"), create("kept", b"kept"))
        storage.checkpoint()
        commit(storage, append("lost", b"!"))
        disk.kinds = {"read"}
        with pytest.raises(OSError, match="Input/output error"):
            storage.checkpoint()
        storage.checkpoint()
        disk.kinds = set()
        with pytest.raises(StreamDamaged):
            read_all(storage, "lost")
        assert read_all(storage, "kept") == b"kept"


class ExhaustedDisk(HastyDisk):
    """Has no descriptor to spare for reading, as long as it is ``exhausted``."""

    exhausted = False

    def open(self, path: str, *, write: bool = False) -> int:
        if self.exhausted and not write:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return super().open(path, write=write)


@pytest.mark.parametrize("size", [10, 1000])
def test_no_descriptor_to_spare_is_neither_damage_nor_a_failed_sync(tmp_path: Path, size: int) -> None:
    disk = ExhaustedDisk()
    with opened(tmp_path / "data", disk=disk, tuning=SMALL) as storage:
        commit(storage, create("a", bytes(size)), create("other"))
        storage.checkpoint()
        commit(storage, append("a", b"!"))
        disk.exhausted = True
        for _ in range(3):
            with pytest.raises(OSError, match="Too many open files"):
                storage.checkpoint()
        with pytest.raises(Unavailable):
            read_all(storage, "a")
        assert not storage.failed
        commit(storage, append("other", b"goes on"))
        disk.exhausted = False
        storage.checkpoint()
        assert read_all(storage, "a") == bytes(size) + b"!"
