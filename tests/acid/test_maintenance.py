"""Verify, back up, restore, pack: what they find, what they copy, and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest
from ZODB.FileStorage.format import DATA_HDR_LEN

from durable_streams.protocol.requests import Producer, Remove
from durable_streams.storage.zodb import DirectoryDamaged
from durable_streams.storage.zodb.maintenance import AcidMaintenance
from tests.acid.driving import commit, opened, script, shard_file
from tests.disk.recording import HastyDisk
from tests.engines.driving import Contents, append, contents, create, flip

MAINTENANCE = AcidMaintenance(HastyDisk())


def write(data_dir: Path, seed: int = 1) -> Contents:
    made = script(Random(seed))
    with opened(data_dir, 2) as storage:
        for _ in range(60):
            commit(storage, *made.requests(storage))
        # The random forks have not taken references; those that have lost their source would be found.
        for name in storage.names("", "", 100):
            state = storage.known(name)
            if state is not None and state.config.fork is not None:
                commit(storage, Remove(name))
        commit(storage, create("p"), append("p", b"x", producer=Producer("a", 3, 0)))
        return contents(storage)


def test_verify_names_the_stream_that_has_lost_a_chunk_and_the_place(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        commit(storage, create("whole", b"w" * 5000), create("broken", b"b" * 5000))
    file = shard_file(tmp_path / "data")
    flip(file, file.read_bytes().index(b"b" * 5000) + 2500)
    problems = MAINTENANCE.verify(tmp_path / "data").problems
    assert any(str(file) in problem and "damaged at byte" in problem for problem in problems)


def test_what_is_damaged_is_neither_backed_up_nor_restored(tmp_path: Path) -> None:
    write(tmp_path / "data")
    MAINTENANCE.backup(tmp_path / "data", tmp_path / "backup")
    for data_dir in (tmp_path / "data", tmp_path / "backup"):
        flip(shard_file(data_dir), 2000)
    with pytest.raises(DirectoryDamaged, match=r"000\.fs is damaged at byte"):
        MAINTENANCE.backup(tmp_path / "data", tmp_path / "second")
    assert not (tmp_path / "second" / "acid" / "layout.json").exists()
    with pytest.raises(ValueError, match=r"is not restored: .*000\.fs is damaged"):
        MAINTENANCE.restore(tmp_path / "backup", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_packing_gives_back_room_and_also_what_nothing_refers_to(tmp_path: Path) -> None:
    expected = write(tmp_path / "data")
    with opened(tmp_path / "data", 2) as storage:
        commit(storage, create("large", bytes(2_000_000)))
        commit(storage, Remove("large"))
        # As a crash would leave it: what was to be deleted has been forgotten.
        for shard in storage._shards:
            shard.storage.garbage.unneeded.clear()
    packed = MAINTENANCE.compact(tmp_path / "data")
    assert packed.bytes_before > 2_000_000
    payload = sum(len(held) for _, held in expected.values())
    assert packed.bytes_after < payload * 1.05 + 3000 * (len(expected) + 2)
    assert packed.bytes_after == sum(
        path.stat().st_size for path in (tmp_path / "data").rglob("*") if path.is_file()
    )
    assert MAINTENANCE.verify(tmp_path / "data").problems == []
    with opened(tmp_path / "data", 2) as storage:
        assert contents(storage) == expected


def test_what_is_damaged_is_not_packed(tmp_path: Path) -> None:
    """A damaged reference would make garbage of what it refers to."""
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s", b"s" * 3000), create("t", b"t" * 200_000))
    file = shard_file(tmp_path / "data")
    data = file.read_bytes()
    pickles = [found.start() for found in re.finditer(rb"\x80\x03c", data)][-6:]
    # The 13th byte is of the length of the first transaction, which nobody needs but who looks for references.
    for position in [13, *(at + offset for at in pickles for offset in (0, 3, 90, -DATA_HDR_LEN))]:
        flip(file, position)
        damaged = file.read_bytes()
        with pytest.raises(ValueError, match=r"000\.fs is .*damaged"):
            MAINTENANCE.compact(tmp_path / "data")
        assert file.read_bytes() == damaged
        file.write_bytes(data)
    assert MAINTENANCE.compact(tmp_path / "data").bytes_after > 203_000
