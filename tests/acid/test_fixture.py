"""The directory of version 1 that is kept with the tests can be read, and is what this version still writes."""

from __future__ import annotations

import shutil
from pathlib import Path

from durable_streams.storage.zodb.maintenance import AcidMaintenance
from tests.acid import fixture
from tests.acid.driving import commit, opened
from tests.files.driving import append, create, read_all
from tests.servers import ROOT

FIXTURE = ROOT / "tests" / "fixtures" / "acid-v1"


def test_the_directory_of_version_1_can_be_read_verified_and_written_on(tmp_path: Path) -> None:
    shutil.copytree(FIXTURE, tmp_path / "data")
    assert AcidMaintenance().verify(tmp_path / "data").problems == []
    with opened(tmp_path / "data", fixture.SHARDS) as storage:
        fixture.check(storage)
        commit(storage, append("sealed", b" and on"), create("new", b"n"))
    with opened(tmp_path / "data", fixture.SHARDS) as storage:
        assert read_all(storage, "sealed") == fixture.SEALED + b"in the tail and on"
        assert storage.names("new", "", 10) == ["new"]


def test_this_version_writes_what_it_is_expected_to_read(tmp_path: Path) -> None:
    fixture.write(tmp_path / "data")
    with opened(tmp_path / "data", fixture.SHARDS) as storage:
        fixture.check(storage)
    assert sorted(path.name for path in FIXTURE.rglob("*") if path.is_file()) == sorted(
        ["000.fs", "001.fs", "000.fs.index", "layout.json"]
    )
