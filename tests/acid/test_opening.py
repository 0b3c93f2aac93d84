"""Opening: one owner, the number of shards, directories that are not ours or not whole, and patching too late."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams.storage.zodb import (
    DirectoryDamaged,
    WrongLayout,
)
from durable_streams.storage.zodb.maintenance import AcidMaintenance
from tests.acid.driving import build, commit, opened, shard_file
from tests.engines.driving import create, flip, read_all
from tests.servers import ROOT


def refused(data_dir: Path, error: type[Exception], shard_count: int = 1) -> str:
    """Why opening is refused; it must leave everything for the next try."""
    storage = build(data_dir, shard_count)
    with pytest.raises(error) as caught:
        storage.open()
    return str(caught.value)


def test_another_number_of_shards_is_refused_naming_both(tmp_path: Path) -> None:
    with opened(tmp_path / "data", 4) as storage:
        commit(storage, create("s", b"kept"))
    said = refused(tmp_path / "data", WrongLayout, 2)
    assert "acid_shard_count = 4" in said
    assert "opened with 2" in said
    assert str(tmp_path / "data") in said
    with opened(tmp_path / "data", 4) as storage:
        assert read_all(storage, "s") == b"kept"


def _change_layout(data_dir: Path, **changes: object) -> None:
    path = data_dir / "acid" / "layout.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


WRONG: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "a later version": (lambda data: _change_layout(data, version=2), WrongLayout, "version 2"),
    "another hash": (lambda data: _change_layout(data, hash="md5"), WrongLayout, "'md5'"),
    "another format": (lambda data: _change_layout(data, format="other"), WrongLayout, "'other'"),
    "no JSON": (
        lambda data: (data / "acid" / "layout.json").write_text("{"),
        WrongLayout,
        "cannot be read",
    ),
    "no layout": (
        lambda data: (data / "acid" / "layout.json").unlink(),
        WrongLayout,
        "holds '000.fs' and no 'layout.json'",
    ),
    "a shard is missing": (lambda data: shard_file(data, 1).unlink(), DirectoryDamaged, "001.fs"),
    "a shard is another file": (
        lambda data: shard_file(data, 1).write_bytes(b"hello, world"),
        DirectoryDamaged,
        "does not begin like a FileStorage",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_directory_that_is_not_ours_or_not_whole_is_refused(tmp_path: Path, case: str) -> None:
    spoil, error, says = WRONG[case]
    with opened(tmp_path / "data", 2) as storage:
        commit(storage, create("s", b"kept"))
    spoil(tmp_path / "data")
    assert says in refused(tmp_path / "data", error, 2)


def test_any_changed_byte_of_the_layout_is_refused_and_nothing_is_cut(tmp_path: Path) -> None:
    """With another salt no checksum is right, and all of a file without an index looks like its torn end."""
    data_dir, layout = tmp_path / "data", tmp_path / "data" / "acid" / "layout.json"
    with opened(data_dir) as storage:
        commit(storage, create("s", b"kept"))
    shard_file(data_dir).with_suffix(".fs.index").unlink()
    file = shard_file(data_dir).read_bytes()
    for position in range(layout.stat().st_size):
        flip(layout, position)
        storage = build(data_dir)
        with pytest.raises((WrongLayout, DirectoryDamaged)):
            storage.open()
        with pytest.raises((WrongLayout, DirectoryDamaged)):
            AcidMaintenance().verify(data_dir)
        flip(layout, position)
    assert shard_file(data_dir).read_bytes() == file
    with opened(data_dir) as storage:
        assert read_all(storage, "s") == b"kept"


def test_a_directory_with_files_of_others_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "data" / "acid").mkdir(parents=True)
    (tmp_path / "data" / "acid" / "thesis.txt").write_text("years of work")
    assert "thesis.txt" in refused(tmp_path / "data", WrongLayout)
    assert (tmp_path / "data" / "acid" / "thesis.txt").read_text() == "years of work"


def test_what_a_crash_leaves_beside_a_shard_is_removed(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s", b"kept"))
    file = shard_file(tmp_path / "data")
    remains = [file.with_name(file.name + suffix) for suffix in (".pack", ".tmp", ".index.tmp")]
    for path in remains:
        path.write_bytes(b"half of it")
    with opened(tmp_path / "data") as storage:
        assert read_all(storage, "s") == b"kept"
        assert not any(path.exists() for path in remains)


@pytest.mark.parametrize(
    "spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\x80\x03garbage")]
)
def test_an_index_that_is_missing_or_garbage_costs_time_only(
    tmp_path: Path, spoil: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s", b"kept"))
    index = shard_file(tmp_path / "data").with_suffix(".fs.index")
    spoil(index)
    with opened(tmp_path / "data") as storage:
        assert read_all(storage, "s") == b"kept"
    assert index.stat().st_size > 20


PATCHING = """
import sys
from pathlib import Path
{first}
{second}
from durable_streams.storage.zodb import AcidStorage
storage = AcidStorage(Path(sys.argv[1]))
storage.open()
storage.close()
"""
PATCH, IMPORT = "from gevent import monkey; monkey.patch_all()", "import ZODB.utils"


def _run_patching(tmp_path: Path, first: str, second: str) -> subprocess.CompletedProcess[str]:
    program = PATCHING.format(first=first, second=second)
    command = [sys.executable, "-c", program, str(tmp_path / "data")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_zodb_imported_before_patching_is_refused_for_it_would_stop_the_loop(tmp_path: Path) -> None:
    finished = _run_patching(tmp_path, IMPORT, PATCH)
    assert finished.returncode == 1
    assert "ZODB was imported before gevent patched" in finished.stderr


def test_zodb_imported_after_patching_is_what_is_meant(tmp_path: Path) -> None:
    finished = _run_patching(tmp_path, PATCH, IMPORT)
    assert (finished.returncode, finished.stderr) == (0, "")
