"""What operators do with a data directory: pack, verify, backup, restore; docs/operations.md is their page.

Which directory and of which kind is said by `storage.data_dir` and `storage.mode`. How it is done is the
backends' business; here is what is printed, and with which code the command ends.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from durable_streams.cli.command import Command, no_arguments
from durable_streams.cli.upkeep import (
    DataDamaged,
    DirectoryInUse,
    Findings,
    NoDataDirectory,
    Upkeep,
    upkeep_of,
)
from durable_streams.config import Config, ConfigLoadOptions
from durable_streams.extras import MissingExtra
from durable_streams.startup import ExitCode, load_config_or_exit
from durable_streams.storage.modes import mode_of
from durable_streams.storage.on_disk.directory import names_in

PROGRAM: Final = "durable-streams-server"

Work = Callable[[Upkeep, Path, argparse.Namespace], Findings]


class Refused(Exception):
    """The command is not carried out; the message is the line that says why."""

    def __init__(self, code: ExitCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _command(
    name: str, summary: str, work: Work, add_arguments: Callable[[argparse.ArgumentParser], None]
) -> Command:
    def run(options: ConfigLoadOptions, parsed: argparse.Namespace) -> int:
        config = load_config_or_exit(options)
        try:
            findings = _carry_out(work, config, parsed)
        except Refused as refused:
            return _say(name, [str(refused)], refused.code)
        print(findings.summary)
        return _say(name, findings.problems, ExitCode.DAMAGED if findings.problems else ExitCode.OK)

    return Command(name, summary, run, add_arguments)


def _carry_out(work: Work, config: Config, parsed: argparse.Namespace) -> Findings:
    """Raises Refused for whatever keeps the command from being carried out."""
    try:
        upkeep = upkeep_of(config.storage)
    except MissingExtra as exc:
        raise Refused(ExitCode.CONFIGURATION, str(exc)) from exc
    if upkeep is None:
        name = mode_of(config.storage).name
        raise Refused(ExitCode.CONFIGURATION, f"storage.mode = {name} keeps nothing on disk")
    try:
        return work(upkeep, Path(config.storage.data_dir), parsed)
    except DirectoryInUse as exc:
        raise Refused(ExitCode.IN_USE, str(exc)) from exc
    except NoDataDirectory as exc:
        raise Refused(ExitCode.NO_DATA, str(exc)) from exc
    except DataDamaged as exc:
        raise Refused(ExitCode.DAMAGED, str(exc)) from exc
    except OSError as exc:
        raise Refused(ExitCode.INPUT_OUTPUT, str(exc)) from exc


def _say(name: str, lines: list[str], code: ExitCode) -> ExitCode:
    for line in lines:
        print(f"{PROGRAM} {name}: {line}", file=sys.stderr)
    return code


def _pack(upkeep: Upkeep, data_dir: Path, _: argparse.Namespace) -> Findings:
    return upkeep.pack(data_dir)


def _verify(upkeep: Upkeep, data_dir: Path, parsed: argparse.Namespace) -> Findings:
    return upkeep.verify(parsed.directory or data_dir)


def _backup(upkeep: Upkeep, data_dir: Path, parsed: argparse.Namespace) -> Findings:
    _check_empty(parsed.directory)
    return upkeep.backup(data_dir, parsed.directory)


def _restore(upkeep: Upkeep, data_dir: Path, parsed: argparse.Namespace) -> Findings:
    _check_empty(data_dir)
    return upkeep.restore(parsed.directory, data_dir)


def _check_empty(directory: Path) -> None:
    """Nothing that is there is ever written over."""
    if directory.exists() and (not directory.is_dir() or names_in(directory)):
        raise Refused(ExitCode.NOT_EMPTY, f"{directory} is not empty; nothing was written")


def _other_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=Path, help="a backup to verify, instead of the data"
    )


def _backup_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="the directory that holds the backup")


PACK = _command(
    "pack", "Give back the room of what is no longer needed; the server must be stopped.", _pack, no_arguments
)
VERIFY = _command(
    "verify",
    "Read every byte of the data, check every checksum, name what is damaged.",
    _verify,
    _other_directory,
)
BACKUP = _command(
    "backup",
    "Copy the data, as it is at one moment, into an empty directory, and verify the copy.",
    _backup,
    _backup_directory,
)
RESTORE = _command(
    "restore", "Make the data directory, which must be empty, what a backup is.", _restore, _backup_directory
)
MAINTENANCE: Final = (PACK, VERIFY, BACKUP, RESTORE)
