"""Checkpoints while requests go on: nothing changes but where things lie, and nothing grows without end."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from random import Random
from time import monotonic

import gevent
import pytest

from durable_streams.protocol.errors import StorageFull, Unavailable
from durable_streams.protocol.requests import Remove
from durable_streams.storage.files import FileStorage, FileTuning, checkpointing
from durable_streams.storage.files.layout import Layout, deletions_held
from tests.disk.recording import FaultyDisk, PausableDisk
from tests.engines.driving import Model, Script, append, contents, copy_of, create, decide, read_all, record
from tests.files.driving import BY_HAND, NEVER_S, SMALL, commit, opened

DEADLINE_S = 60.0


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [True, False], ids=["file-durable", "file-fast"])
def test_requests_between_the_steps_of_a_checkpoint_are_neither_lost_nor_mixed_up(
    tmp_path: Path, durable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slices of one stream make many steps; crashes are tried from the middle of them."""
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    random = Random(seed)
    monkeypatch.setattr(checkpointing, "BLOCK_STREAMS_MAX", 1)
    script, model = Script(random), Model()
    disk = PausableDisk()
    with opened(tmp_path / "data", durable, disk=disk, tuning=replace(SMALL, checkpoints_max=3)) as storage:
        for life in range(12):
            making = gevent.spawn(storage.checkpoint)
            crash_at = random.randrange(20)
            step = 0
            while not making.ready() or step <= crash_at:
                changes = decide(storage, script.requests(storage), 1000.0 + life)
                if changes:
                    record(storage, changes)
                    model.apply(changes)
                if step == crash_at:
                    with disk.pause:
                        crashed = copy_of(tmp_path / "data", tmp_path / f"crash-{life}")
                    at_crash = model.copy()
                step += 1
                gevent.sleep(0)
            making.get()
            assert contents(storage) == model.contents
            with opened(crashed, durable, tuning=SMALL) as recovered:
                assert contents(recovered) == at_crash


def test_checkpoints_are_put_together_before_they_become_many(tmp_path: Path) -> None:
    with opened(tmp_path / "data", tuning=replace(SMALL, checkpoints_max=4)) as storage:
        commit(storage, create("idle", b"stays"), create("busy"))
        for number in range(20):
            commit(storage, append("busy", b"%02d" % number))
            storage.checkpoint()
            assert len(names_in(tmp_path / "data" / "checkpoints")) <= 4
        assert names_in(tmp_path / "data" / "journal") == ["0000000021.log"]
        assert read_all(storage, "idle") == b"stays"
    with opened(tmp_path / "data") as storage:
        assert read_all(storage, "idle") == b"stays"
        assert read_all(storage, "busy") == b"".join(b"%02d" % number for number in range(20))


def test_checkpoints_that_have_outgrown_their_first_are_put_together(tmp_path: Path) -> None:
    with opened(tmp_path / "data", tuning=replace(BY_HAND, outgrown_bytes=0)) as storage:
        commit(storage, create("a"))
        for _ in range(12):
            commit(storage, append("a", b"."))
            storage.checkpoint()
            assert len(names_in(tmp_path / "data" / "checkpoints")) <= 3


def test_a_removed_stream_leaves_no_file_after_the_next_checkpoint(tmp_path: Path) -> None:
    with opened(tmp_path / "data", tuning=SMALL) as storage:
        commit(storage, create("a", bytes(1000)))
        storage.checkpoint()
        file = Path(Layout(tmp_path / "data").stream(1))
        assert file.exists()
        commit(storage, Remove("a"))
        assert file.exists()
        storage.checkpoint()
        assert not file.exists()


def test_nothing_goes_while_a_reader_of_the_directory_holds_it(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with opened(data_dir, tuning=replace(SMALL, checkpoints_max=2)) as storage:
        commit(storage, create("a", bytes(1000)), create("b", b"packed"))
        storage.checkpoint()
        kept = {*data_dir.glob("*/*.log"), *data_dir.glob("checkpoints/*"), Path(Layout(data_dir).stream(1))}
        with deletions_held(Layout(data_dir)):
            commit(storage, Remove("a"))
            for _ in range(4):
                commit(storage, append("b", b"."))
                storage.checkpoint()
            assert all(path.exists() for path in kept)
        commit(storage, append("b", b"."))
        storage.checkpoint()
        assert not any(path.exists() for path in kept)
        assert read_all(storage, "b") == b"packed....."


def wait_for(storage: FileStorage, journal: int) -> None:
    """Until a checkpoint behind the requests has moved writing on to this journal and is done."""
    until = monotonic() + DEADLINE_S
    while storage._journal.number < journal or storage._index.before is not None:
        assert monotonic() < until, "no checkpoint was made"
        gevent.sleep(0.001)


@pytest.mark.parametrize("durable", [True, False], ids=["file-durable", "file-fast"])
@pytest.mark.parametrize("limit", ["checkpoint_journal_bytes", "checkpoint_unflushed_bytes"])
def test_a_checkpoint_is_made_when_the_journal_or_the_payload_in_memory_has_grown(
    tmp_path: Path, durable: bool, limit: str
) -> None:
    with opened(tmp_path / "data", durable, tuning=replace(BY_HAND, **{limit: 5000})) as storage:
        commit(storage, create("a"))
        gevent.sleep(0)
        assert storage._journal.number == 1
        for _ in range(6):
            commit(storage, append("a", bytes(1000)))
        wait_for(storage, journal=2)
        assert storage._index.unflushed_bytes == 0
        assert read_all(storage, "a") == bytes(6000)


def test_a_checkpoint_is_made_when_something_has_waited_long_enough(tmp_path: Path) -> None:
    tuning = FileTuning(sync_interval_s=0.001, checkpoint_age_s=0.0)
    with opened(tmp_path / "data", tuning=tuning) as storage:
        commit(storage, create("a", b"1"))
        wait_for(storage, journal=2)


def test_the_fast_mode_syncs_its_journal_behind_the_requests(tmp_path: Path) -> None:
    tuning = FileTuning(sync_interval_s=0.001, checkpoint_age_s=NEVER_S)
    with opened(tmp_path / "data", durable=False, tuning=tuning) as storage:
        commit(storage, create("a", b"1"))
        until = monotonic() + DEADLINE_S
        while storage._journal.synced < storage._journal.seq:
            assert monotonic() < until
            gevent.sleep(0.001)


def test_a_stream_that_grows_fast_moves_to_its_file_without_a_checkpoint(tmp_path: Path) -> None:
    with opened(tmp_path / "data", tuning=replace(BY_HAND, stream_unflushed_bytes=10_000)) as storage:
        commit(storage, create("a"))
        for number in range(100):
            commit(storage, append("a", bytes([number]) * 1000))
            assert storage._index.unflushed_bytes <= 10_000
        assert read_all(storage, "a") == b"".join(bytes([number]) * 1000 for number in range(100))
        assert storage._journal.number == 1


def test_writes_wait_when_payload_cannot_leave_the_memory_as_fast_as_it_comes(tmp_path: Path) -> None:
    with opened(tmp_path / "data", tuning=replace(BY_HAND, unflushed_bytes_max=5000)) as storage:
        commit(storage, create("a", bytes(5001)))
        with pytest.raises(Unavailable):
            commit(storage, append("a", b"more"))
        storage.checkpoint()
        commit(storage, append("a", b"more"))
        assert read_all(storage, "a") == bytes(5001) + b"more"


def test_a_disk_that_stays_full_costs_no_files_and_says_so(tmp_path: Path) -> None:
    disk = FaultyDisk(set(), 0, errno.ENOSPC, for_good=True)
    tuning = replace(BY_HAND, checkpoint_journal_bytes=6000, checkpoint_retry_s=0.0, unflushed_bytes_max=5000)
    with opened(tmp_path / "data", disk=disk, tuning=tuning) as storage:
        commit(storage, create("a", bytes(3000)), create("b", bytes(3000)))
        disk.kinds = {"rename"}
        for _ in range(5):
            storage._background.checkpoint_step.run()
        assert names_in(tmp_path / "data" / "journal") == ["0000000001.log", "0000000002.log"]
        with pytest.raises(StorageFull):
            commit(storage, append("a", b"no room"))
        disk.kinds = set()
        storage.checkpoint()
        assert names_in(tmp_path / "data" / "journal") == ["0000000002.log"]
        commit(storage, append("a", b"room"))


def test_thousands_of_streams_need_few_open_files(tmp_path: Path) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    tuning = replace(SMALL, files_kept_open=10)
    before = open_files()
    with opened(tmp_path / "data", tuning=tuning) as storage:
        highest = 0
        for number in range(2000):
            commit(storage, create(f"stream {number}", bytes(300)))
        for name in storage.names("", "", 10_000)[::7]:
            assert read_all(storage, name) == bytes(300)
        making = gevent.spawn(storage.checkpoint)
        while not making.ready():
            highest = max(highest, open_files())
            gevent.sleep(0)
        making.get()
        for name in storage.names("", "", 10_000)[::7]:
            assert read_all(storage, name) == bytes(300)
            highest = max(highest, open_files())
        assert highest - before < 10 + 20
    with gevent.Timeout(DEADLINE_S):
        while open_files() > before + 5:
            gevent.sleep(0.001)
