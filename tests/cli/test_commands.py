"""The command line: which command runs, what it prints, how it exits."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

from durable_streams import __version__, cli
from durable_streams.cli import main
from durable_streams.cli.command import Command
from durable_streams.config import Config, ConfigLoadOptions
from durable_streams.startup import ExitCode
from tests.servers import ROOT


@pytest.fixture(autouse=True)
def empty_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory without `config/` and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DS_") or name == "RUST_LOG"]:
        monkeypatch.delenv(name)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ConfigLoadOptions]:
    """What `serve` was asked to load, instead of serving it."""
    calls: list[ConfigLoadOptions] = []

    def run(options: ConfigLoadOptions, _: argparse.Namespace) -> int:
        calls.append(options)
        return ExitCode.OK

    stand_in = Command("serve", "Serve.", run)
    monkeypatch.setattr(cli, "SERVE", stand_in)
    monkeypatch.setattr(cli, "COMMANDS", (stand_in, *cli.COMMANDS[1:]))
    return calls


@pytest.mark.parametrize(
    "arguments",
    [
        ["--profile", "prod", "--config", "x.toml"],
        ["serve", "--profile", "prod", "--config", "x.toml"],
        ["--profile", "prod", "serve", "--config", "x.toml"],
        ["--profile=prod", "--config=x.toml", "serve"],
        ["--profile", "dev", "serve", "--profile", "prod", "--config", "x.toml"],
    ],
)
def test_serve_is_the_default_and_options_stand_anywhere(
    served: list[ConfigLoadOptions], arguments: list[str]
) -> None:
    assert main(arguments) == ExitCode.OK
    assert [(call.profile, call.config_path) for call in served] == [("prod", "x.toml")]


def test_without_arguments_the_server_serves(served: list[ConfigLoadOptions]) -> None:
    assert main([]) == ExitCode.OK
    assert [(call.profile, call.config_path) for call in served] == [(None, None)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "::1", "--port", "80", "--mode", "acid", "--data-dir", "/srv"],
        ["serve", "--host", "::1", "--port", "80", "--mode", "acid", "--data-dir", "/srv"],
        ["--host=::1", "--mode=memory", "serve", "--port=80", "--mode=acid", "--data-dir=/srv"],
    ],
)
def test_options_of_the_command_line_override_every_other_layer(
    served: list[ConfigLoadOptions], arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DS_SERVER__HOST", "DS_SERVER__PORT", "DS_STORAGE__MODE", "DS_STORAGE__DATA_DIR"):
        monkeypatch.setenv(name, "1")
    assert main(arguments) == ExitCode.OK
    config = Config.load(served[0])
    assert (config.server.host, config.server.port) == ("::1", 80)
    assert (config.storage.mode, config.storage.data_dir) == ("acid", Path("/srv"))
    assert config.source_of("server.port") == "option --port"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--port", "x"], "--port = 'x': must be a whole number (from option --port)"),
        (["--mode", "disk"], "--mode = 'disk': must be one of"),
        (["--host", "a b"], "--host = 'a b': must be a host name or an address"),
        (["--data-dir", ""], "--data-dir = '': must not be empty (from option --data-dir)"),
    ],
)
def test_a_wrong_option_is_named(capfd: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "config"])
    assert ended.value.code == ExitCode.CONFIGURATION
    assert line in capfd.readouterr().err


def test_an_interrupt_before_serving_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(options: ConfigLoadOptions, _: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "SERVE", Command("serve", "Serve.", interrupt))
    assert main([]) == ExitCode.INTERRUPTED


def test_config_prints_toml_with_the_source_of_each_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("config").mkdir()
    Path("config/prod.toml").write_text('[log]\nformat = "json"\n')
    monkeypatch.setenv("DS_SERVER__PORT", "5000")
    assert main(["config", "--profile", "prod"]) == ExitCode.OK
    printed = capsys.readouterr().out
    document = tomli.loads(printed)
    assert (document["server"]["port"], document["log"]["format"]) == (5000, "json")
    lines = [line.split() for line in printed.splitlines()]
    assert ["port", "=", "5000", "#", "environment", "variable", "DS_SERVER__PORT"] in lines
    assert ["format", "=", '"json"', "#", "config/prod.toml"] in lines
    assert ["host", "=", '"127.0.0.1"', "#", "built-in", "default"] in lines


def test_a_wrong_configuration_is_one_line_and_an_exit_code(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_SERVER__PROT", "1")
    with pytest.raises(SystemExit) as ended:
        main(["config"])
    assert ended.value.code == ExitCode.CONFIGURATION == 78
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "[validate_config] DS_SERVER__PROT = '1': unknown key" in err
    assert "did you mean DS_SERVER__PORT?" in err


@pytest.mark.parametrize("arguments", [["serv"], ["config", "extra"], ["--prof", "x"], ["--profile"]])
def test_wrong_usage_is_explained_and_exits_with_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == ExitCode.USAGE == 2
    assert "durable-streams-server" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for command in cli.COMMANDS:
        assert f"{command.name} {command.summary}" in printed


def test_the_module_is_the_same_command_line() -> None:
    command = [sys.executable, "-m", "durable_streams", "--version"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout == f"durable-streams-server {__version__}\n"


def test_printing_the_configuration_loads_no_server() -> None:
    program = (
        "import sys; from durable_streams.cli import main; main(['config']);"
        "print({'gunicorn', 'gevent', 'flask'} & sys.modules.keys(), file=sys.stderr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stderr == "set()\n"


def test_an_output_that_is_full_has_its_exit_code() -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "durable_streams", "config"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.returncode == ExitCode.INPUT_OUTPUT == 74
    assert ended.stderr == "durable-streams-server config: standard output: No space left on device\n"


def test_a_reader_of_the_output_that_has_gone_is_told_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "durable_streams", "config"], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (ExitCode.INPUT_OUTPUT, b"")
