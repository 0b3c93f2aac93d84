"""Opening and closing: one owner, directories that are not ours or not whole, and everything as it was before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from durable_streams.protocol.errors import Unavailable
from durable_streams.storage.on_disk.directory import DirectoryInUse, WrongLayout
from tests.engines.driving import Model, contents, copy_of, create, decide, files_of, read_all, record
from tests.engines.engine import ENGINES, Engine
from tests.servers import ROOT


def refused(engine: Engine, data_dir: Path, error: type[Exception]) -> str:
    """Why opening is refused; it must leave everything for the next try."""
    before = files_of(data_dir)
    with pytest.raises(error) as caught:
        engine.build(data_dir).open()
    assert files_of(data_dir) == before
    return str(caught.value)


def test_opening_touches_nothing_before_it_is_asked_to(engine: Engine, tmp_path: Path) -> None:
    engine.build(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_the_directory_may_be_text(engine: Engine, tmp_path: Path) -> None:
    expected = engine.write(tmp_path / "data", create("s", b"kept"))
    with engine.opened(str(tmp_path / "data")) as storage:
        assert contents(storage) == expected


def test_a_second_owner_is_refused_and_told_who_the_first_is(engine: Engine, tmp_path: Path) -> None:
    with engine.opened(tmp_path / "data") as storage:
        engine.commit(storage, create("a", b"1"))
        said = refused(engine, tmp_path / "data", DirectoryInUse)
        assert f"process {os.getpid()}" in said
        assert str(tmp_path / "data") in said
        engine.commit(storage, create("b", b"2"))
    assert list(engine.contents(tmp_path / "data")) == ["a", "b"]


OPENING = """
import sys
from pathlib import Path
from tests.engines.engine import ENGINES
next(engine for engine in ENGINES if engine.mode.name == sys.argv[1]).build(Path(sys.argv[2])).open()
"""


def test_another_process_is_refused_while_the_owner_lives(engine: Engine, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPENING, engine.mode.name, str(tmp_path / "data")]
    with engine.opened(tmp_path / "data"):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 1
    assert f"the data directory {tmp_path / 'data'} is in use by process {os.getpid()}" in done.stderr


def test_a_directory_of_something_else_is_refused(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    assert "holds 'letters.txt'" in refused(engine, tmp_path, WrongLayout)
    assert (tmp_path / "letters.txt").read_text() == "dear"


def test_a_directory_of_another_mode_is_called_what_it_is(engine: Engine, tmp_path: Path) -> None:
    """A setting that was changed by mistake must not look like streams that have gone."""
    for other in ENGINES:
        if other.mode.mark == engine.mode.mark:
            continue
        data_dir = tmp_path / other.mode.name
        other.write(data_dir, create("s", b"kept"))
        said = refused(engine, data_dir, WrongLayout)
        assert "it was made with storage.mode = " in said
        assert other.mode.name in said


def test_another_version_is_refused_and_named(engine: Engine, tmp_path: Path) -> None:
    engine.write(tmp_path, create("s", b"kept"))
    layout, (now, later) = tmp_path / engine.mode.mark, engine.versions
    text = layout.read_text()
    assert now in text
    layout.write_text(text.replace(now, later))
    said = refused(engine, tmp_path, WrongLayout)
    assert later.replace('"', "").replace(":", "") in said
    assert engine.mode.mark != "layout" or now in said


def test_the_top_of_a_disk_is_as_good_as_any_directory(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    expected = engine.write(tmp_path, create("s", b"kept"))
    assert engine.contents(tmp_path) == expected


def test_a_failed_opening_leaves_the_directory_free(engine: Engine, tmp_path: Path) -> None:
    expected = engine.write(tmp_path / "data", create("a", b"1"))
    mark = tmp_path / "data" / engine.mode.mark
    kept = mark.read_bytes()
    mark.write_bytes(b"")
    refused(engine, tmp_path / "data", ValueError)
    mark.write_bytes(kept)
    assert engine.contents(tmp_path / "data") == expected


def test_opening_and_closing_twice_does_no_more_than_once(engine: Engine, tmp_path: Path) -> None:
    storage = engine.build(tmp_path / "data")
    storage.close()
    storage.open()
    storage.open()
    engine.commit(storage, create("a", b"1"))
    storage.close()
    storage.close()
    storage.open()
    assert read_all(storage, "a") == b"1"
    storage.close()


def test_a_closed_storage_refuses_changes_and_can_be_opened_again(engine: Engine, tmp_path: Path) -> None:
    storage = engine.build(tmp_path / "data")
    storage.open()
    changes = decide(storage, [create("s", b"x")])
    ((shard, _),) = engine.parts(storage, changes)
    storage.close()
    with pytest.raises(Unavailable):
        record(storage, changes, shard)
    storage.open()
    record(storage, changes, shard)
    storage.close()
    with engine.opened(tmp_path / "data") as again:
        assert read_all(again, "s") == b"x"


def test_after_any_restart_or_crash_everything_is_as_before(engine: Engine, tmp_path: Path) -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    random = Random(seed)
    script, model = engine.script(random), Model()
    data_dir = tmp_path / "0"
    for life in range(30):
        storage = engine.build(data_dir)
        storage.open()
        assert contents(storage) == model.contents
        for number in range(random.randrange(12)):
            changes = decide(storage, script.requests(storage), 1000.0 + life * 20 + number)
            model.apply(changes)
            for shard, part in engine.parts(storage, changes):
                record(storage, part, shard)
            if random.random() < 0.15:
                random.choice((engine.checkpoint, engine.pack))(storage)
        assert contents(storage) == model.contents
        if random.random() < 0.6:
            data_dir = copy_of(data_dir, tmp_path / str(life + 1))
        storage.close()
