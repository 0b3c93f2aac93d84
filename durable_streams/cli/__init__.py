"""The command line `durable-streams-server`: which command was asked for, and how its options are read.

A command is a `Command` in one of the modules beside this one; `serve` is meant when none is named. Wrong
usage exits with 2, like every program that uses argparse; the other codes are those of `startup.ExitCode`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from durable_streams import __version__
from durable_streams.cli.command import Command
from durable_streams.cli.copying import COPY
from durable_streams.cli.keys import KEYS
from durable_streams.cli.maintenance import MAINTENANCE
from durable_streams.cli.serving import CONFIG, SERVE
from durable_streams.cli.signing import SIGN_URL
from durable_streams.cli.tokens import TOKEN
from durable_streams.config import SETTINGS, ConfigLoadOptions
from durable_streams.config.layers import OPTIONS
from durable_streams.startup import ExitCode

__all__ = ["main"]

PROGRAM: Final = "durable-streams-server"
COMMANDS: Final[tuple[Command, ...]] = (SERVE, CONFIG, *MAINTENANCE, COPY, KEYS, TOKEN, SIGN_URL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (without the program's name) ask for; returns its exit code."""
    parsed = _parser().parse_args(arguments)
    given = {option: getattr(parsed, _attribute(option)) for option in OPTIONS}
    options = ConfigLoadOptions(
        profile=parsed.profile,
        config_path=parsed.config,
        options={option: text for option, text in given.items() if text is not None},
    )
    command: Command = getattr(parsed, "command", SERVE)
    try:
        code = command.run(options, parsed)
        # None where it was closed before the start.
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except OSError as exc:
        # The other commands report their own errors.
        if command is SERVE:
            raise
        return _say_output_failed(command.name, exc)
    return code


def _say_output_failed(name: str, exc: OSError) -> ExitCode:
    """Standard output did not take everything: the disk behind it is full, or its reader has gone."""
    # Python would flush again at its exit, and exit with a code of its own.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(exc, BrokenPipeError):
        print(f"{PROGRAM} {name}: standard output: {exc.strerror}", file=sys.stderr)
    return ExitCode.INPUT_OUTPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="A server for the Durable Streams protocol.",
        epilog="Every setting: docs/settings.md, or `durable-streams-server config`.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    _add_config_options(parser, default=None)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name, help=command.summary, description=command.summary, allow_abbrev=False
        )
        # The options may stand before or after the command; after it, they must not undo those before it.
        _add_config_options(subparser, default=argparse.SUPPRESS)
        command.add_arguments(subparser)
        subparser.set_defaults(command=command)
    return parser


def _add_config_options(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    parser.add_argument(
        "--profile",
        metavar="NAME",
        default=default,
        help="read config/NAME.toml on top of config/default.toml",
    )
    parser.add_argument(
        "--config", metavar="FILE", default=default, help="read FILE on top of the files in config/"
    )
    for option, key in OPTIONS.items():
        # argparse takes a `%` in a help text for a format.
        sentence = SETTINGS[key].sentence.replace("%", "%%")
        parser.add_argument(option, metavar=key.partition(".")[2].upper(), default=default, help=sentence)


def _attribute(option: str) -> str:
    """Where argparse puts the value of an option."""
    return option.removeprefix("--").replace("-", "_")
