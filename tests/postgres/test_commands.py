"""The commands that look after the database: migrate, verify, and copy there and back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from durable_streams.cli import main
from durable_streams.startup import ExitCode
from durable_streams.storage.files import FileStorage
from durable_streams.storage.postgres import PostgresOptions, PostgresStorage
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore
from tests.contract.driving import create_request
from tests.postgres.cluster import new_schema, shared_cluster


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PostgresOptions:
    """An empty schema, and an environment that names it."""
    found = PostgresOptions(shared_cluster().dsn, schema=new_schema())
    for name in [name for name in os.environ if name.startswith("DS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DS_POSTGRES__DSN", found.dsn)
    monkeypatch.setenv("DS_POSTGRES__DB_SCHEMA", found.schema)
    monkeypatch.chdir(tmp_path)
    return found


def test_tables_are_made_and_then_left_alone(
    options: PostgresOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["--mode", "postgres", "migrate"]) == ExitCode.OK
        assert "are those of this version" in capsys.readouterr().out


def test_other_modes_have_nothing_to_migrate(
    options: PostgresOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--mode", "acid", "migrate"]) == ExitCode.CONFIGURATION
    assert "storage.mode = acid has no tables" in capsys.readouterr().err


def test_streams_come_from_files_are_verified_and_go_back(
    options: PostgresOptions, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fill(tmp_path / "files")
    assert main(["--mode", "postgres", "copy", "files"]) == ExitCode.OK
    assert main(["--mode", "postgres", "verify"]) == ExitCode.OK
    assert "2 streams, 3,000,005 bytes of payload" in capsys.readouterr().out
    assert main(["--mode", "file-durable", "--data-dir", "back", "copy", "postgres"]) == ExitCode.OK
    assert main(["--mode", "file-durable", "--data-dir", "back", "verify"]) == ExitCode.OK
    assert "2 streams, 3,000,005 bytes of payload" in capsys.readouterr().out


def test_bytes_that_are_missing_are_found(
    options: PostgresOptions, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fill(tmp_path / "files")
    assert main(["--mode", "postgres", "copy", "files"]) == ExitCode.OK
    storage = PostgresStorage(options)
    storage.open()
    with storage._pool.session() as session:
        session.execute("delete from chunks where start > 1000000")
    storage.close()
    capsys.readouterr()
    assert main(["--mode", "postgres", "verify"]) == ExitCode.DAMAGED
    assert "stream 'long'" in capsys.readouterr().err


def fill(folder: Path) -> None:
    store = StreamStore(FileStorage(folder, durable=True), Limits(), lambda changes: None)
    store.open()
    store.create(create_request("short", b"words"))
    store.create(create_request("long", b"x" * 3_000_000))
    store.close()
