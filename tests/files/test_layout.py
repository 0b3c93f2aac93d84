"""Who may open a directory, and what is in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from durable_streams.storage.files import DirectoryInUse, FileStorage, WrongLayout
from tests.files.driving import BY_HAND, commit, copy_of, create, opened, read_all
from tests.servers import ROOT

FIXTURE = ROOT / "tests" / "fixtures" / "files-v1"


def test_a_second_owner_is_refused_and_told_the_directory(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with opened(data_dir) as storage:
        commit(storage, create("a", b"1"))
        with pytest.raises(DirectoryInUse, match=str(data_dir)), opened(data_dir, durable=False):
            pass
        commit(storage, create("b", b"2"))
    with opened(data_dir) as storage:
        assert storage.names("", "", 10) == ["a", "b"]


def test_another_process_is_refused_and_told_the_owner(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    program = (
        "import pathlib, sys\n"
        "from durable_streams.storage.files import FileStorage\n"
        "FileStorage(pathlib.Path(sys.argv[1]), True).open()\n"
    )
    with opened(data_dir):
        command = [sys.executable, "-c", program, str(data_dir)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        owner = (data_dir / "lock").read_text().strip()
    assert done.returncode
    assert f"the data directory {data_dir} is in use by process {owner}" in done.stderr


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(WrongLayout, match=r"holds 'letters\.txt'"), opened(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


def test_a_directory_of_acid_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "acid").mkdir()
    (tmp_path / "acid" / "layout.json").touch()
    with pytest.raises(WrongLayout, match=r"no file 'layout': it was made with storage\.mode = acid"):
        FileStorage(tmp_path, True).open()


def test_the_top_of_a_disk_is_as_good_as_any_directory(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    with opened(tmp_path) as storage:
        commit(storage, create("a", b"1"))
    with opened(tmp_path) as storage:
        assert read_all(storage, "a") == b"1"


def test_another_version_is_refused_and_both_are_named(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with opened(data_dir):
        pass
    (data_dir / "layout").write_text("durable-streams files 2\n")
    with pytest.raises(
        WrongLayout, match="says 'durable-streams files 2', and this server reads 'durable-streams files 1'"
    ):
        FileStorage(data_dir, True).open()


def test_a_failed_opening_leaves_the_directory_free(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with opened(data_dir) as storage:
        commit(storage, create("a", b"1"))
    (checkpoint,) = (data_dir / "checkpoints").iterdir()
    kept = checkpoint.read_bytes()
    checkpoint.write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"), opened(data_dir):
        pass
    checkpoint.write_bytes(kept)
    with opened(data_dir) as storage:
        assert read_all(storage, "a") == b"1"


def test_opening_and_closing_twice_does_no_more_than_once(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "data", True, tuning=BY_HAND)
    storage.close()
    storage.open()
    storage.open()
    commit(storage, create("a", b"1"))
    storage.close()
    storage.close()
    storage.open()
    assert read_all(storage, "a") == b"1"
    storage.close()


def test_the_directory_of_the_first_version_is_still_read(tmp_path: Path) -> None:
    """tests/files/fixture.py has written it; every later version has to serve the same from it."""
    from tests.files.fixture import check

    with opened(copy_of(FIXTURE, tmp_path / "data")) as storage:
        check(storage)


def test_the_fixture_is_what_this_version_writes(tmp_path: Path) -> None:
    from tests.files.fixture import check, write

    write(tmp_path / "data")
    with opened(tmp_path / "data") as storage:
        check(storage)
