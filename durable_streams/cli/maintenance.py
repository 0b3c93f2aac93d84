"""What operators do with a data directory: compact, verify, backup, restore; docs/operations.md is their page.

The settings `storage.data_dir` and `storage.mode` name the directory and its kind; a backup says itself of which mode
it is. The storages know how it is done; here is what is printed, and with which code the command ends.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from durable_streams.cli.command import Command, no_arguments
from durable_streams.cli.verifying import verify_streams
from durable_streams.config import Config, ConfigLoadOptions
from durable_streams.extras import MissingExtra
from durable_streams.protocol.errors import ProtocolError
from durable_streams.startup import ExitCode, load_config_or_exit
from durable_streams.storage.abilities import Maintained
from durable_streams.storage.contract import Storage
from durable_streams.storage.modes import MODES, Mode, mode_of, mode_of_directory
from durable_streams.storage.on_disk.directory import (
    DirectoryError,
    DirectoryInUse,
    DirectoryNotEmpty,
    NoRoom,
    WrongLayout,
)
from durable_streams.storage.on_disk.report import Report

PROGRAM: Final = "durable-streams-server"

DATABASE: Final = next(mode for mode in MODES.values() if mode.place == "postgres.dsn")
DATABASE_TABLE: Final = DATABASE.place.partition(".")[0]

Work = Callable[[Maintained, Path, argparse.Namespace], Report]
"""Gets what the mode offers, the data directory and the parsed arguments."""
_CODES: Final = {
    WrongLayout: ExitCode.NO_DATA,
    DirectoryInUse: ExitCode.IN_USE,
    DirectoryNotEmpty: ExitCode.NOT_EMPTY,
    NoRoom: ExitCode.INPUT_OUTPUT,
}
"""Every other DirectoryError says that something is damaged."""


class Refused(Exception):
    """The command does not run; the message is the reason."""

    def __init__(self, code: ExitCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _command(
    name: str,
    summary: str,
    work: Work,
    done: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    reads_directory: bool = False,
) -> Command:
    """``done`` begins the line on standard output; it may name ``{data}`` and ``{directory}``.

    ``reads_directory``: DIR is a data directory too, and says itself which mode has made it.
    """

    def run(options: ConfigLoadOptions, parsed: argparse.Namespace) -> int:
        config = load_config_or_exit(options)
        data = Path(config.storage.data_dir)
        read = getattr(parsed, "directory", None) if reads_directory else None
        mode = mode_of_directory(read, config.storage) if read else mode_of(config.storage)
        try:
            report = _run_work(work, mode, config, parsed)
        except Refused as refused:
            return print_problems(name, [str(refused)], refused.code)
        if mode is DATABASE:
            print(f"{done.format(data=place_of(config), directory=place_of(config))}: {_summary(report)}")
            return print_problems(name, report.problems, ExitCode.DAMAGED if report.problems else ExitCode.OK)
        directory = getattr(parsed, "directory", None) or data
        note = "" if mode == mode_of(config.storage) else f" (storage.mode = {mode.name})"
        print(f"{done.format(data=data, directory=directory)}{note}: {_summary(report)}")
        return print_problems(name, report.problems, ExitCode.DAMAGED if report.problems else ExitCode.OK)

    return Command(name, summary, run, add_arguments)


def _run_work(work: Work, mode: Mode, config: Config, parsed: argparse.Namespace) -> Report:
    """Raises Refused when the command cannot run."""
    if mode.maintenance is None:
        if work is _verify and mode is DATABASE:
            with opened(config) as storage, refusals():
                return verify_streams(storage)
        raise Refused(ExitCode.CONFIGURATION, f"storage.mode = {mode.name} keeps nothing on disk")
    with refusals():
        mode.check_installed()
        return work(mode.maintenance(), Path(config.storage.data_dir), parsed)


def _summary(report: Report) -> str:
    if report.bytes_before:
        return f"{report.bytes_before:,} bytes before, {report.bytes_after:,} after"
    text = f"{report.streams:,} streams, {report.payload_bytes:,} bytes of payload"
    if report.torn_bytes:
        text += f"; {report.torn_bytes:,} bytes behind the last whole batch belong to no answered request"
    return text


@contextmanager
def opened(config: Config) -> Iterator[Storage]:
    with refusals():
        storage = mode_of(config.storage).build(config)
        storage.open()
    try:
        yield storage
    finally:
        storage.close()


@contextmanager
def refusals() -> Iterator[None]:
    try:
        yield
    except MissingExtra as exc:
        raise Refused(ExitCode.CONFIGURATION, str(exc)) from exc
    except (DirectoryError, ValueError) as exc:
        advice = "; stop it first" if isinstance(exc, DirectoryInUse) else ""
        raise Refused(code_of(exc), f"{exc}{advice}") from exc
    except ProtocolError as exc:
        reason = getattr(exc, "cause", None) or exc.detail or exc.title
        raise Refused(ExitCode.INPUT_OUTPUT, f"{reason}") from exc
    except OSError as exc:
        raise Refused(ExitCode.INPUT_OUTPUT, str(exc)) from exc


def place_of(config: Config) -> str:
    """Where the streams are, without a password."""
    if mode_of(config.storage) is DATABASE:
        return f"{DATABASE.name} {config.postgres.dsn.rpartition('@')[2]} {config.postgres.db_schema}"
    return str(Path(config.storage.data_dir).resolve())


def code_of(exc: Exception) -> ExitCode:
    """The exit code for a directory that is not as it has to be."""
    return _CODES.get(type(exc), ExitCode.DAMAGED)


def print_problems(name: str, lines: list[str], code: ExitCode) -> ExitCode:
    for line in lines:
        print(f"{PROGRAM} {name}: {line}", file=sys.stderr)
    return code


def _compact(maintained: Maintained, data_dir: Path, _: argparse.Namespace) -> Report:
    return maintained.compact(data_dir)


def _verify(maintained: Maintained, data_dir: Path, parsed: argparse.Namespace) -> Report:
    return maintained.verify(parsed.directory or data_dir)


def _backup(maintained: Maintained, data_dir: Path, parsed: argparse.Namespace) -> Report:
    return maintained.backup(data_dir, parsed.directory)


def _restore(maintained: Maintained, data_dir: Path, parsed: argparse.Namespace) -> Report:
    return maintained.restore(parsed.directory, data_dir)


def _other_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=Path, help="a backup to verify, instead of the data"
    )


def _backup_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="the directory that holds the backup")


COMPACT = _command(
    "compact",
    "Free the space of what is no longer needed; the server must be stopped.",
    _compact,
    "compacted {data}",
    no_arguments,
)


def _migrate(options: ConfigLoadOptions, _: argparse.Namespace) -> int:
    config = load_config_or_exit(options)
    mode = mode_of(config.storage)
    try:
        if mode is not DATABASE:
            raise Refused(
                ExitCode.CONFIGURATION, f"storage.mode = {mode.name} has no tables to bring up to date"
            )
        with opened(config):
            print(f"the tables of {place_of(config)} are those of this version")
    except Refused as refused:
        return print_problems("migrate", [str(refused)], refused.code)
    return ExitCode.OK


MIGRATE = Command("migrate", "Bring the tables of the database to this version, or make them.", _migrate)
VERIFY = _command(
    "verify",
    "Read every byte of the data, check every checksum, name what is damaged.",
    _verify,
    "verified {directory}",
    _other_directory,
    reads_directory=True,
)
BACKUP = _command(
    "backup",
    "Copy the data, as it is at one moment, into an empty directory, and verify the copy.",
    _backup,
    "backed up to {directory}",
    _backup_directory,
)
RESTORE = _command(
    "restore",
    "Make the data directory, which must be empty, what a backup is.",
    _restore,
    "restored {data}",
    _backup_directory,
    reads_directory=True,
)
MAINTENANCE: Final = (COMPACT, VERIFY, BACKUP, RESTORE, MIGRATE)
