"""The command `copy`: which source is meant, what is printed, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durable_streams.cli import main
from durable_streams.cli.maintenance import place_of
from durable_streams.config import Config
from durable_streams.startup import ExitCode
from durable_streams.storage.contract import Storage
from durable_streams.storage.files import FileStorage
from durable_streams.storage.zodb import AcidStorage
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore
from tests.contract.driving import create_request

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def empty_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DS_") or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The code and both outputs of `copy` into a directory of a mode."""

    def run_copy(
        source: object, *, mode: str = "file-durable", target: str = "target"
    ) -> tuple[int, str, str]:
        code = main(["--mode", mode, "--data-dir", target, "copy", str(source)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_copy


def make(storage: Storage, **streams: bytes) -> Storage:
    store = StreamStore(storage, Limits(), lambda changes: None)
    store.open()
    for name, body in streams.items():
        store.create(create_request(name, body))
    store.close()
    return storage


def contents(storage: Storage) -> dict[str, bytes]:
    storage.open()
    found = {}
    for name in storage.names("", "", 1000):
        state = storage.known(name)
        assert state is not None
        found[name] = storage.read(state, 0, state.tail)
    storage.close()
    return found


SOURCES = {
    "file-fast": lambda folder: FileStorage(folder, durable=False),
    "file-durable": lambda folder: FileStorage(folder, durable=True),
    "acid": lambda folder: AcidStorage(folder, 4),
}


@pytest.mark.parametrize("mode", SOURCES)
def test_a_directory_says_itself_of_what_mode_it_is(mode: str, run: Run, tmp_path: Path) -> None:
    make(SOURCES[mode](tmp_path / "source"), a=b"one", b=b"three")
    code, out, err = run("source", mode="acid")
    assert (code, err) == (ExitCode.OK, "")
    assert out == (
        f"copied source to {tmp_path / 'target'}: 2 streams, 8 bytes of payload; 0 streams were there already\n"
    )
    assert contents(AcidStorage(tmp_path / "target")) == {"a": b"one", "b": b"three"}
    code, out, _ = run("source", mode="acid")
    assert code == ExitCode.OK
    assert "0 streams, 0 bytes of payload; 2 streams were there already" in out


def test_a_stream_that_is_in_the_way_is_named_and_the_others_are_copied(run: Run, tmp_path: Path) -> None:
    make(FileStorage(tmp_path / "source", durable=True), a=b"one", b=b"two")
    make(FileStorage(tmp_path / "target", durable=True), a=b"theirs")
    code, _, err = run("source")
    assert code == ExitCode.DAMAGED
    assert err == "durable-streams-server copy: a: the target has another stream of this name\n"
    assert contents(FileStorage(tmp_path / "target", durable=True)) == {"a": b"theirs", "b": b"two"}


# source, mode of the target, its directory, exit code, what the line says
REFUSALS: list[tuple[str, str, str, ExitCode, str]] = [
    ("nowhere", "acid", "target", ExitCode.NO_DATA, "nowhere is no data directory"),
    (
        "source",
        "memory",
        "target",
        ExitCode.CONFIGURATION,
        "storage.mode = memory: nothing of a copy would be left",
    ),
    ("source", "file-durable", "source", ExitCode.CONFIGURATION, "the source and the target are the same"),
    (
        "source/../source",
        "file-fast",
        "source",
        ExitCode.CONFIGURATION,
        "the source and the target are the same",
    ),
    ("postgres", "acid", "target", ExitCode.CONFIGURATION, "postgres.dsn must be set"),
]


@pytest.mark.parametrize(("source", "mode", "target", "code", "words"), REFUSALS)
def test_a_copy_that_cannot_be_is_refused_in_one_line(
    source: str, mode: str, target: str, code: ExitCode, words: str, run: Run, tmp_path: Path
) -> None:
    make(FileStorage(tmp_path / "source", durable=True), a=b"one")
    returned, out, err = run(source, mode=mode, target=target)
    assert (returned, out) == (code, "")
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize("owned", ["source", "target"])
def test_a_directory_that_a_server_owns_is_refused(owned: str, run: Run, tmp_path: Path) -> None:
    make(FileStorage(tmp_path / "source", durable=True), a=b"one")
    owner = FileStorage(tmp_path / owned, durable=True)
    owner.open()
    try:
        code, _, err = run("source")
    finally:
        owner.close()
    assert code == ExitCode.IN_USE
    assert err.count("\n") == 1
    assert "stop it first" in err


def test_a_password_is_not_printed() -> None:
    config: Any = Config.model_validate(
        {"storage": {"mode": "postgres"}, "postgres": {"dsn": "postgresql://me:secret@db.example/streams"}}
    )
    assert place_of(config) == "postgres db.example/streams durable_streams"
