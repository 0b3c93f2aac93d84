"""Packing: what was replaced goes, what is current stays, commits and readers go on meanwhile."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
import sys
from pathlib import Path
from random import Random
from time import monotonic

import gevent
import pytest

from durable_streams.protocol.requests import Remove
from durable_streams.storage.zodb import AcidStorage, AcidTuning
from durable_streams.storage.zodb.contents import saved_contents
from durable_streams.storage.zodb.file_storage import ShardFileStorage
from durable_streams.storage.zodb.packing import Packing, PackStopped
from tests.acid.driving import by_shard, commit, opened, pack_all, script, shard_file
from tests.disk.recording import FaultyDisk
from tests.engines.driving import Model, append, contents, create, decide, read_all, record
from tests.servers import ROOT

PATIENCE_S = 180.0


def shard_of(storage: AcidStorage) -> ShardFileStorage:
    file = storage._shards[0].storage
    assert isinstance(file, ShardFileStorage)
    return file


def test_packing_keeps_what_is_current_and_nothing_else(tmp_path: Path) -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    made, model = script(Random(seed)), Model()
    with opened(tmp_path / "data", 2) as storage:
        for number in range(120):
            changes = decide(storage, made.requests(storage), 1000.0)
            model.apply(changes)
            for shard, part in by_shard(storage, changes):
                record(storage, part, shard)
            if number % 20 == 19:
                pack_all(storage)
                assert contents(storage) == model.contents
        for file in (shard.storage for shard in storage._shards):
            assert isinstance(file, ShardFileStorage)
            while file.garbage.unneeded:
                file.delete_some()
        pack_all(storage)
        payload = sum(len(held) for _, held in model.contents.values())
        rows = 3000 * (len(model.contents) + 2)
        assert sum(shard.storage.getSize() for shard in storage._shards) < payload * 1.05 + rows
    with opened(tmp_path / "data", 2) as storage:
        assert contents(storage) == model.contents


def test_a_large_stream_that_is_removed_gives_back_its_room(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        commit(storage, create("large"), append("large", bytes(3_000_000)))
        commit(storage, Remove("large"))
        commit(storage, create("s", b"x"))
        pack_all(storage)
        assert storage._shards[0].storage.getSize() < 10_000


def test_what_is_garbage_is_counted_and_the_count_outlives_a_stop(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s"))
        for _ in range(200):
            commit(storage, append("s", bytes(100)))
        file = shard_of(storage)
        counted, size = file.garbage.bytes, file.getSize()
        pack_all(storage)
        gone = size - file.getSize()
        # Transaction headers are not counted.
        assert 0.8 * gone < counted <= gone
        assert file.garbage.bytes == 0
        commit(storage, append("s", bytes(100)))
        left = file.garbage.bytes
        assert left > 0
    with opened(tmp_path / "data") as storage:
        assert shard_of(storage).garbage.bytes == left


def test_transactions_that_come_while_a_pack_copies_are_copied_too(tmp_path: Path) -> None:
    class Meanwhile:
        """Threads whose every call is followed by another append, as other greenlets would make them."""

        def __init__(self, storage: AcidStorage) -> None:
            self.storage = storage
            self.appended = 0

        def close(self) -> None:
            pass

        def run(self, function: object, *args: object) -> object:
            assert callable(function)
            result = function(*args)
            if not shard_of(self.storage)._commit_lock.locked():
                commit(self.storage, append("s", b"!" * 3000), create(f"n{self.appended}"))
                self.appended += 1
            return result

    with opened(tmp_path / "data") as storage:
        commit(storage, create("s"))
        for _ in range(50):
            commit(storage, append("s", bytes(100)))
        file = shard_of(storage)
        meanwhile = Meanwhile(storage)
        file.shared.background = meanwhile  # type: ignore[assignment]
        assert Packing(file, gc=False).run()
        assert meanwhile.appended > 0
        expected = bytes(5000) + b"!" * 3000 * meanwhile.appended
        assert read_all(storage, "s") == expected
        commit(storage, append("s", b"after"))
    with opened(tmp_path / "data") as storage:
        assert read_all(storage, "s") == expected + b"after"
        assert len(storage.names("n", "", 100)) == meanwhile.appended


def test_a_pack_that_is_stopped_leaves_everything_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s"), append("s", bytes(10_000)))
        file = shard_of(storage)
        before = shard_file(tmp_path / "data").read_bytes()
        packing = Packing(file, gc=False)
        packing.stopping = True
        with pytest.raises(PackStopped):
            packing.run()
        assert shard_file(tmp_path / "data").read_bytes() == before
        assert not shard_file(tmp_path / "data").with_suffix(".fs.pack").exists()
        commit(storage, append("s", b"goes on"))


def test_a_file_is_packed_without_being_asked_when_half_is_garbage(tmp_path: Path) -> None:
    tuning = AcidTuning(interval_s=0.001, pack_bytes=50_000)
    with opened(tmp_path / "data", tuning=tuning) as storage:
        commit(storage, create("s"))
        file = shard_of(storage)
        largest = 0
        with gevent.Timeout(PATIENCE_S):
            while file.getSize() >= largest:
                commit(storage, append("s", bytes(100)))
                largest = max(largest, file.getSize())
                gevent.sleep(0.001)
        assert read_all(storage, "s").strip(b"\0") == b""


def test_a_small_file_is_packed_when_nearly_all_of_it_is_garbage(tmp_path: Path) -> None:
    tuning = AcidTuning(1e9, small_pack_bytes=200_000, stop_pack_bytes=0)
    with opened(tmp_path / "data", tuning=tuning) as storage:
        (background,), file = storage._background.shards, shard_of(storage)
        commit(storage, create("kept", bytes(150_000)))
        sizes = [file.getSize()]
        while sizes[-1] >= sizes[-2 if len(sizes) > 1 else -1]:
            commit(storage, create("gone", bytes(200_000)))
            commit(storage, Remove("gone"))
            background.work()
            sizes.append(file.getSize())
        assert max(sizes) > 5 * 150_000, "less than four fifths were garbage"
        assert len(sizes) < 15
        assert read_all(storage, "kept") == bytes(150_000)


@pytest.mark.parametrize(("kept_bytes", "is_quick"), [(100_000, True), (400_000, False)])
def test_a_stop_packs_what_is_quick(tmp_path: Path, kept_bytes: int, is_quick: bool) -> None:
    tuning = AcidTuning(1e9, stop_pack_bytes=200_000)
    with opened(tmp_path / "data", tuning=tuning) as storage:
        commit(storage, create("kept", bytes(kept_bytes)), create("gone", bytes(900_000)))
        commit(storage, Remove("gone"))
        shard_of(storage).delete_some()
    assert (shard_file(tmp_path / "data").stat().st_size < 900_000) is is_quick
    with opened(tmp_path / "data", tuning=tuning) as storage:
        assert read_all(storage, "kept") == bytes(kept_bytes)


@pytest.mark.parametrize(
    "tuning", [AcidTuning(1e9, index_bytes=20_000), AcidTuning(1e9, index_age_s=0.0)], ids=["large", "old"]
)
def test_an_index_is_saved_without_being_asked_when_it_knows_too_little(
    tmp_path: Path, tuning: AcidTuning
) -> None:
    with opened(tmp_path / "data", tuning=tuning) as storage:
        (background,), file = storage._background.shards, shard_of(storage)
        commit(storage, create("s", bytes(30_000)))
        background.work()
        known = saved_contents(file.getName()).end
        assert known == file.indexed_bytes == file.getSize()
        background.work()
        commit(storage, append("s", b"little"))
        background.work()
        grown = tuning.index_age_s == 0.0
        assert saved_contents(file.getName()).end == (file.getSize() if grown else known)


def test_an_index_that_cannot_be_saved_is_tried_again_later_and_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    disk = FaultyDisk(set(), 0, errno.ENOSPC, for_good=True)
    with opened(tmp_path / "data", tuning=AcidTuning(1e9, index_age_s=0.0), disk=disk) as storage:
        (background,), file = storage._background.shards, shard_of(storage)
        commit(storage, create("s", b"a"))
        disk.kinds = {"write"}
        step = background.step(background.work)
        step.run()
        assert step.not_before > monotonic()
        disk.kinds = set()
        commit(storage, append("s", b"b"))
        background.step(background.work).run()
        assert saved_contents(file.getName()).end == file.getSize()
        assert read_all(storage, "s") == b"ab"


def test_writers_readers_packing_and_backups_at_once_in_a_patched_process(tmp_path: Path) -> None:
    seed = str(Random().randrange(10**9))
    print(f"seed {seed}")
    command = [sys.executable, "-m", "tests.acid.under_load", str(tmp_path), seed]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr
    done = json.loads(finished.stdout)
    print(done)
    assert done["packs"] > 0
    assert done["reads"] > 0
    assert done["backups"] == 3
