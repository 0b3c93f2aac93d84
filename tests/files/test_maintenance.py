"""verify, backup and restore: on directories that rest, that are damaged, and that a server is writing to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams.protocol.requests import Producer, Remove
from durable_streams.protocol.state import ForkPoint
from durable_streams.storage.files.layout import Layout
from durable_streams.storage.files.maintenance import FileMaintenance
from durable_streams.storage.files.segments import BLOCK_BYTES
from tests.disk.recording import HastyDisk
from tests.engines.driving import (
    Contents,
    append,
    contents,
    copy_of,
    create,
    files_of,
    flip,
)
from tests.engines.fixture import FILES
from tests.files.driving import SMALL, commit, opened

MAINTENANCE, HASTY = FileMaintenance(), FileMaintenance(HastyDisk())
CHECKPOINT, JOURNAL = "0000000001.checkpoint", "0000000002.log"


def a_directory(tmp_path: Path) -> tuple[Path, Contents]:
    """As a crash leaves it, with payload in every location and a fork."""
    data_dir = tmp_path / "running"
    with opened(data_dir, tuning=SMALL) as storage:
        commit(storage, create("small", b"packed"), create("large", FILES.large_bytes))
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
