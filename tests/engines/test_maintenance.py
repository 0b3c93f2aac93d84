"""What verify, backup, restore and compact do in every mode that keeps its streams on disk."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import gevent
import pytest
from gevent.threadpool import ThreadPool

from durable_streams.config.settings import StorageSettings
from durable_streams.protocol.requests import Producer, Remove
from durable_streams.protocol.state import ForkPoint
from durable_streams.storage.contract import Change, Storage
from durable_streams.storage.modes import MODES, mode_of_directory, modes_marked
from durable_streams.storage.on_disk.directory import (
    DirectoryInUse,
    DirectoryNotEmpty,
    WrongLayout,
)
from tests.engines.driving import (
    Contents,
    Model,
    Script,
    append,
    contents,
    copy_of,
    create,
    decide,
    files_of,
    record,
)
from tests.engines.engine import ENGINES, Engine

REQUESTS = (
    create("small", b"s" * 10),
    create("large", b"l" * 200_000),
    append("large", b"more", producer=Producer("p", 1, 0)),
    create("empty"),
)


def test_the_engines_are_all_modes_that_can_be_maintained() -> None:
    offered = {mode.name: type(mode.maintenance()) for mode in MODES.values() if mode.maintenance}
    assert {engine.mode.name: type(engine.maintenance) for engine in ENGINES} == offered


def test_verify_counts_what_is_there_and_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    expected = engine.write(tmp_path / "data", *REQUESTS)
    before = files_of(tmp_path / "data")
    report = engine.maintenance.verify(tmp_path / "data")
    assert (report.problems, report.torn_bytes) == ([], 0)
    assert report.streams == len(expected)
    assert report.payload_bytes == sum(len(held) for _, held in expected.values())
    assert report.commits >= len(REQUESTS)
    assert files_of(tmp_path / "data") == before


def test_verify_needs_no_permission_to_write(engine: Engine, tmp_path: Path) -> None:
    engine.write(tmp_path / "data", *REQUESTS)
    for path in [tmp_path / "data", *(tmp_path / "data").rglob("*")]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        assert engine.maintenance.verify(tmp_path / "data").problems == []
    finally:
        for path in (tmp_path / "data").rglob("*"):
            path.chmod(0o700)
        (tmp_path / "data").chmod(0o700)


def test_what_is_torn_is_told_and_is_no_problem(engine: Engine, tmp_path: Path) -> None:
    with engine.opened(tmp_path / "running") as storage:
        engine.commit(storage, *REQUESTS)
        copy_of(tmp_path / "running", tmp_path / "data")
    with engine.torn_file(tmp_path / "data").open("ab") as file:
        file.write(b"torn")
    report = engine.maintenance.verify(tmp_path / "data")
    assert (report.torn_bytes, report.problems) == (4, [])


def test_a_shortened_backup_is_noticed(engine: Engine, tmp_path: Path) -> None:
    engine.write(tmp_path / "data", *REQUESTS)
    engine.maintenance.backup(tmp_path / "data", tmp_path / "backup")
    file = max((tmp_path / "backup").rglob("*"), key=lambda path: path.stat().st_size)
    os.truncate(file, file.stat().st_size // 2)
    assert engine.maintenance.verify(tmp_path / "backup").problems


def test_a_backup_while_the_server_writes_is_one_moment_of_it(engine: Engine, tmp_path: Path) -> None:
    """Checkpoints, packs and removals go on meanwhile; each backup is one of the moments passed."""
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    script, model, pool = engine.script(Random(seed)), Model(), ThreadPool(1)
    with engine.opened(tmp_path / "data") as storage:
        for number in range(12):
            moments = [model.copy()]
            target = tmp_path / f"backup-{number}"
            running = pool.spawn(engine.maintenance.backup, tmp_path / "data", target)
            while not running.ready():
                moments += write_some(engine, storage, script, model)
            assert running.get().problems == []
            assert engine.contents(target) in moments
    pool.kill()


def test_a_server_that_is_writing_can_be_verified(engine: Engine, tmp_path: Path) -> None:
    script, model, pool = engine.script(Random(7)), Model(), ThreadPool(1)
    with engine.opened(tmp_path / "data") as storage:
        for _ in range(12):
            running = pool.spawn(engine.maintenance.verify, tmp_path / "data")
            while not running.ready():
                write_some(engine, storage, script, model)
            assert running.get().problems == []
    pool.kill()


def write_some(engine: Engine, storage: Storage, script: Script, model: Model) -> list[Contents]:
    """The contents after each commit."""
    moments = []
    for number in range(8):
        # The script knows no references, so a fork might lose its source: there are none here.
        changes = [change for change in decide(storage, script.requests(storage)) if not is_fork(change)]
        for shard, part in engine.parts(storage, changes):
            record(storage, part, shard)
            model.apply(part)
            moments.append(model.copy())
        if number == 7:
            engine.checkpoint(storage)
        gevent.sleep(0)
    return moments


def is_fork(change: Change) -> bool:
    return change.after is not None and change.after.config.fork is not None


def test_a_fork_without_its_source_is_named(engine: Engine, tmp_path: Path) -> None:
    engine.write(
        tmp_path / "data",
        create("source", b"0123"),
        create("orphan", fork_point=ForkPoint("source", "another uid", 2, 2, 0, True, 1)),
        create("beyond", fork_point=ForkPoint("source", "first of source", 9, 9, 0, True, 1)),
        create("lost", fork_point=ForkPoint("gone", "never was", 0, 0, 0, False, 1)),
    )
    assert sorted(engine.maintenance.verify(tmp_path / "data").problems) == [
        "stream 'beyond' begins beyond the tail of its source 'source'",
        "stream 'lost' has lost its source 'gone'",
        "stream 'orphan' has lost its source 'source'",
    ]


def test_a_restored_backup_serves_what_was_there_also_with_the_owner_at_work(
    engine: Engine, tmp_path: Path
) -> None:
    expected = engine.write(tmp_path / "data", *REQUESTS)
    with engine.opened(tmp_path / "data") as storage:
        report = engine.maintenance.backup(tmp_path / "data", tmp_path / "backup")
        engine.commit(storage, create("later", b"not in it"))
    assert (report.problems, report.streams) == ([], len(expected))
    assert engine.maintenance.verify(tmp_path / "backup").problems == []
    assert engine.maintenance.restore(tmp_path / "backup", tmp_path / "restored").problems == []
    assert engine.contents(tmp_path / "restored") == expected
    with engine.opened(tmp_path / "restored") as storage:
        repeated = append("large", b"more", producer=Producer("p", 1, 0))
        assert not engine.commit(storage, repeated), "the producer's batch is still recognised"


def test_a_backup_can_be_opened_like_any_directory(engine: Engine, tmp_path: Path) -> None:
    expected = engine.write(tmp_path / "data", *REQUESTS)
    engine.maintenance.backup(tmp_path / "data", tmp_path / "backup")
    assert engine.contents(tmp_path / "backup") == expected


def test_a_directory_that_nothing_was_written_to_can_be_backed_up(engine: Engine, tmp_path: Path) -> None:
    with engine.opened(tmp_path / "data"):
        engine.maintenance.backup(tmp_path / "data", tmp_path / "backup")
    assert engine.contents(tmp_path / "backup") == {}


def test_nothing_is_written_over(engine: Engine, tmp_path: Path) -> None:
    engine.write(tmp_path / "data", *REQUESTS)
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "thesis.txt").write_text("years of work")
    for step in (engine.maintenance.backup, engine.maintenance.restore):
        with pytest.raises(DirectoryNotEmpty, match="is not empty; nothing was written"):
            step(tmp_path / "data", tmp_path / "target")
    assert os.listdir(tmp_path / "target") == ["thesis.txt"]


def test_what_is_no_data_directory_is_named_and_left_alone(engine: Engine, tmp_path: Path) -> None:
    maintenance, none = engine.maintenance, tmp_path / "none"
    for step in (
        lambda: maintenance.verify(none),
        lambda: maintenance.backup(none, tmp_path / "target"),
        lambda: maintenance.restore(none, tmp_path / "target"),
        lambda: maintenance.compact(none),
    ):
        with pytest.raises(WrongLayout, match=r"none.* holds no file 'layout.*it is not a data directory"):
            step()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("configured", ["memory", "file-fast", "file-durable", "acid"])
def test_a_directory_says_itself_of_which_mode_it_is(engine: Engine, configured: str, tmp_path: Path) -> None:
    options = StorageSettings(mode=configured)
    engine.write(tmp_path / "data", *REQUESTS)
    found = mode_of_directory(tmp_path / "data", options)
    assert found.mark == engine.mode.mark
    assert found.name == configured or configured not in modes_marked(tmp_path / "data")
    assert mode_of_directory(tmp_path, options).name == configured


def test_an_interrupted_backup_is_no_data_directory(engine: Engine, tmp_path: Path) -> None:
    """The mark of the mode is the last thing that a copy gets."""
    engine.write(tmp_path / "data", *REQUESTS)
    engine.maintenance.backup(tmp_path / "data", tmp_path / "backup")
    (tmp_path / "backup" / engine.mode.mark).unlink()
    with pytest.raises(WrongLayout, match="it is not a data directory"):
        engine.maintenance.verify(tmp_path / "backup")
    with pytest.raises(WrongLayout, match="it is not a data directory"):
        engine.maintenance.restore(tmp_path / "backup", tmp_path / "restored")


def test_compacting_frees_what_is_no_longer_needed_and_keeps_the_rest(engine: Engine, tmp_path: Path) -> None:
    expected = engine.write(tmp_path / "data", *REQUESTS)
    engine.write(tmp_path / "data", create("gone", bytes(2_000_000)), Remove("gone"))
    report = engine.maintenance.compact(tmp_path / "data")
    held = sum(path.stat().st_size for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert report.bytes_after == held < 300_000
    assert report.bytes_before >= report.bytes_after
    assert engine.maintenance.verify(tmp_path / "data").problems == []
    assert engine.contents(tmp_path / "data") == expected


def test_compacting_needs_the_directory_for_itself(engine: Engine, tmp_path: Path) -> None:
    with engine.opened(tmp_path / "data") as storage:
        engine.commit(storage, *REQUESTS)
        before = contents(storage)
        with pytest.raises(DirectoryInUse, match=f"in use by process {os.getpid()}"):
            engine.maintenance.compact(tmp_path / "data")
        assert contents(storage) == before
