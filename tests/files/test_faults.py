"""Every call to the disk fails once, in a run that uses them all: nothing is half done, nothing promised is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from durable_streams.protocol.errors import StorageFull, StreamDamaged, Unavailable
from tests.disk.recording import FaultyDisk, HastyDisk
from tests.engines.driving import append, copy_of, create, read_all
from tests.files.driving import SMALL, commit, opened

"""What is committed, one batch after the other; None stands for a checkpoint."""


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
