"""The command `token`, against a file and against a server that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from durable_streams.access.token_file import TOKENS_MAX, changing, new_token
from durable_streams.cli import main
from durable_streams.startup import ExitCode


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_AUTH__TOKENS_PATH", str(tmp_path / "folder" / "tokens.json"))


def create(*more: str) -> int:
    return main(["token", "create", "--name", "one", "--scope", "read write", *more])


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    capsys.readouterr()
    assert main(["token", "list", "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_token_is_made_listed_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    assert create("--streams", "team-a/**", "--streams", "b", "--expires", "30d") == 0
    token = capsys.readouterr().out.strip()
    assert token.startswith("dst_")
    assert len(token) > 50
    (row,) = listed(capsys)
    assert (row["name"], row["scopes"], row["streams"]) == ("one", "read write", "team-a/** b")
    assert row["expires"] > row["created"]
    assert row["id"] in token
    assert main(["token", "revoke", row["id"]]) == 0
    assert listed(capsys) == []


def test_a_name_is_given_once_and_can_be_revoked_by(capsys: pytest.CaptureFixture[str]) -> None:
    assert create() == 0
    assert create() == ExitCode.USAGE
    assert "there is a token one already" in capsys.readouterr().err
    assert main(["token", "revoke", "one"]) == 0
    assert main(["token", "revoke", "one"]) == ExitCode.NO_DATA
    assert create() == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--name", ""],
        ["--name", "a b"],
        ["--name", "x" * 65],
        ["--scope", "everything"],
        ["--scope", " "],
        ["--streams", ""],
        ["--streams", "/a"],
        ["--streams", "a*"],
        ["--streams", "a/***"],
        ["--expires", "0d"],
        ["--expires", "-1d"],
        ["--expires", "1y"],
        ["--expires", "9999999d"],
        ["--scope", "admin", "--streams", "a/**"],
    ],
    ids=" ".join,
)
def test_a_wrong_argument_is_refused_and_makes_nothing(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = create(*arguments)
    except SystemExit as exc:
        code = int(str(exc.code))
    assert code == ExitCode.USAGE
    assert listed(capsys) == []


def test_there_is_a_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with changing(tmp_path / "folder" / "tokens.json") as records:
        records += [new_token(str(number), ["read"], ["**"], None)[1] for number in range(TOKENS_MAX)]
    assert create() == ExitCode.USAGE
    assert f"there are {TOKENS_MAX} tokens" in capsys.readouterr().err


def test_a_damaged_file_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "folder" / "tokens.json"
    path.parent.mkdir()
    path.write_text("not json")
    assert create() == ExitCode.DAMAGED
    assert "is no file of tokens" in capsys.readouterr().err
    assert path.read_text() == "not json"


def test_two_commands_at_once_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    commands = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "durable_streams",
                "token",
                "create",
                "--name",
                f"n{number}",
                "--scope",
                "read",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(4)
    ]
    assert [command.wait(60) for command in commands] == [0] * 4
    assert sorted(row["name"] for row in listed(capsys)) == ["n0", "n1", "n2", "n3"]
