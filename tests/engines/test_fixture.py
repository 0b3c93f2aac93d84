"""The directories of version 1 that are kept with the tests can be read, and are what this version still writes."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.engines.driving import append, create, read_all
from tests.engines.engine import Engine
from tests.engines.fixture import check, fixture_of, write


def test_the_directory_of_version_1_can_be_read_verified_and_written_on(
    engine: Engine, tmp_path: Path
) -> None:
    holds = fixture_of(engine)
    shutil.copytree(holds.path, tmp_path / "data")
    assert engine.maintenance.verify(tmp_path / "data").problems == []
    with engine.opened(tmp_path / "data") as storage:
        check(engine, storage)
        engine.commit(storage, append(holds.large, b" and on"), create("new", b"n"))
    with engine.opened(tmp_path / "data") as storage:
        assert read_all(storage, holds.large) == holds.large_bytes + holds.large_more + b" and on"
        assert storage.names("new", "", 10) == ["new"]


def test_this_version_writes_what_it_is_expected_to_read(engine: Engine, tmp_path: Path) -> None:
    write(engine, tmp_path / "data")
    with engine.opened(tmp_path / "data") as storage:
        check(engine, storage)
    holds = fixture_of(engine)
    names = {path.name for path in holds.path.rglob("*") if path.is_file()}
    assert names >= set(holds.files)
