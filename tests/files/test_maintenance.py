"""verify, backup and restore: on directories that rest, that are damaged, and that a server is writing to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import gevent
import pytest
from gevent.threadpool import ThreadPool

from durable_streams.protocol.requests import Producer, Remove
from durable_streams.protocol.state import ForkPoint
from durable_streams.storage.files import FileStorage
from durable_streams.storage.files.layout import Layout
from durable_streams.storage.files.maintenance import FileMaintenance
from durable_streams.storage.files.segments import BLOCK_BYTES
from tests.disk.recording import HastyDisk
from tests.files.driving import (
    SMALL,
    Contents,
    Model,
    Script,
    append,
    commit,
    contents,
    copy_of,
    create,
    decide,
    files_of,
    flip,
    opened,
    record,
)
from tests.files.fixture import LARGE

MAINTENANCE, HASTY = FileMaintenance(), FileMaintenance(HastyDisk())
CHECKPOINT, JOURNAL = "0000000001.checkpoint", "0000000002.log"


def a_directory(tmp_path: Path) -> tuple[Path, Contents]:
    """As a crash leaves it, with payload in every location and a fork."""
    data_dir = tmp_path / "running"
    with opened(data_dir, tuning=SMALL) as storage:
        commit(storage, create("small", b"packed"), create("large", LARGE))
        storage.checkpoint()
        commit(storage, append("large", b"more", producer=Producer("p", 1, 0)))
        point = ForkPoint("large", "first of large", 100, 100, 0, False, 1)
        commit(storage, create("fork", b"own", fork_point=point))
        return copy_of(data_dir, tmp_path / "data"), contents(storage)


def test_a_sound_directory_has_no_problems(tmp_path: Path) -> None:
    data_dir, expected = a_directory(tmp_path)
    before = files_of(data_dir)
    report = MAINTENANCE.verify(data_dir)
    assert report.problems == []
    assert (report.streams, report.commits, report.torn_bytes) == (3, 3, 0)
    assert report.payload_bytes == sum(len(held) for _, held in expected.values())
    assert files_of(data_dir) == before


def test_a_torn_tail_is_told_and_is_no_problem(tmp_path: Path) -> None:
    data_dir, _ = a_directory(tmp_path)
    journal = data_dir / "journal" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-1])
    report = MAINTENANCE.verify(data_dir)
    assert report.problems == []
    assert report.commits == 2
    assert report.torn_bytes > 0


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (
            lambda path: flip(path / "streams/02/0000000000000002", BLOCK_BYTES + 100),
            "stream 'large' is damaged",
        ),
        (lambda path: (path / "streams/02/0000000000000002").unlink(), "stream 'large' is damaged"),
        (lambda path: flip(path / "checkpoints" / CHECKPOINT, 17), "stream 'small' is damaged"),
        (lambda path: flip(path / "checkpoints" / CHECKPOINT, 30), f"{CHECKPOINT} is damaged at byte 0"),
        (lambda path: flip(path / "journal" / JOURNAL, 30), f"{JOURNAL} is damaged at byte 24"),
    ],
    ids=["stream file", "missing file", "packed payload", "rows", "journal"],
)
def test_damage_is_named(tmp_path: Path, spoil: Callable[[Path], None], named: str) -> None:
    data_dir, _ = a_directory(tmp_path)
    spoil(data_dir)
    (problem,) = MAINTENANCE.verify(data_dir).problems
    assert named in problem
    assert str(data_dir) in problem


def test_a_restored_backup_serves_the_same_answers(tmp_path: Path) -> None:
    data_dir, expected = a_directory(tmp_path)
    assert MAINTENANCE.backup(data_dir, tmp_path / "backup").problems == []
    assert MAINTENANCE.restore(tmp_path / "backup", tmp_path / "restored").problems == []
    with opened(tmp_path / "restored", tuning=SMALL) as storage:
        assert contents(storage) == expected
        repeated = decide(storage, [append("large", b"more", producer=Producer("p", 1, 0))])
        assert not repeated


def test_a_backup_while_the_server_writes_is_one_moment_of_it(tmp_path: Path) -> None:
    """Checkpoints, removals and checkpoints of everything go on meanwhile; each backup is one of the moments passed."""
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    script, model = Script(Random(seed)), Model()
    pool = ThreadPool(1)
    with opened(tmp_path / "data", tuning=replace(SMALL, checkpoints_max=3)) as storage:
        for number in range(12):
            moments = [model.copy()]
            running = pool.spawn(HASTY.backup, tmp_path / "data", tmp_path / f"backup-{number}")
            while not running.ready():
                moments += write_some(storage, script, model)
            assert running.get().problems == []
            with opened(tmp_path / f"backup-{number}", tuning=SMALL) as copied:
                assert contents(copied) in moments
    pool.kill()


def test_a_server_that_is_writing_can_be_verified(tmp_path: Path) -> None:
    script, model = Script(Random(7)), Model()
    pool = ThreadPool(1)
    with opened(tmp_path / "data", tuning=replace(SMALL, checkpoints_max=3)) as storage:
        for _ in range(12):
            running = pool.spawn(HASTY.verify, tmp_path / "data")
            while not running.ready():
                write_some(storage, script, model)
            assert running.get().problems == []
    pool.kill()


def write_some(storage: FileStorage, script: Script, model: Model) -> list[Contents]:
    moments = []
    for number in range(8):
        changes = [
            change for change in decide(storage, script.requests(storage)) if not dangles(storage, change)
        ]
        if changes:
            record(storage, changes)
            model.apply(changes)
            moments.append(model.copy())
        if number == 7:
            storage.checkpoint()
        gevent.sleep(0)
    return moments


def dangles(storage: FileStorage, change: object) -> bool:
    """The script knows no references, so streams that fork, or that a fork reads, are left out here."""
    after = getattr(change, "after", None)
    return after is not None and after.config.fork is not None


def test_a_damaged_backup_is_not_restored(tmp_path: Path) -> None:
    data_dir, _ = a_directory(tmp_path)
    flip(Path(Layout(data_dir).stream(2)), 5)
    with pytest.raises(ValueError, match="is not restored: stream 'large' is damaged"):
        MAINTENANCE.restore(data_dir, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_the_backup_of_a_damaged_directory_holds_what_is_left_and_names_the_rest(tmp_path: Path) -> None:
    data_dir, expected = a_directory(tmp_path)
    Path(Layout(data_dir).stream(2)).unlink()
    (problem,) = MAINTENANCE.backup(data_dir, tmp_path / "backup").problems
    assert "stream 'large' is damaged" in problem
    with opened(tmp_path / "backup") as storage:
        state = storage.known("small")
        assert state is not None
        assert storage.read(state, 0, state.tail) == expected["small"][1]


def test_removed_streams_are_not_missed(tmp_path: Path) -> None:
    """Their files may have gone already, and the journal still says that they go."""
    data_dir = tmp_path / "running"
    with opened(data_dir, tuning=SMALL) as storage:
        commit(storage, create("a", bytes(1000)), create("b", b"stays"))
        storage.checkpoint()
        commit(storage, Remove("a"))
        assert MAINTENANCE.backup(data_dir, tmp_path / "backup").problems == []
    with opened(tmp_path / "backup") as storage:
        assert list(contents(storage)) == ["b"]
