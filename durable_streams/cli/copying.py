"""`copy SOURCE`: all streams of another storage into the one that is configured.

The way from one mode to another, and from a laptop to PostgreSQL and back. docs/operations.md is its page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from durable_streams.cli.command import Command
from durable_streams.cli.maintenance import (
    DATABASE,
    DATABASE_TABLE,
    Refused,
    opened,
    place_of,
    print_problems,
    refusals,
)
from durable_streams.config import Config, ConfigLoadOptions
from durable_streams.startup import ExitCode, load_config_or_exit
from durable_streams.storage.modes import MODES, mode_of, modes_marked
from durable_streams.streams.copying import Copied, copy_streams, count_payload


def _run(options: ConfigLoadOptions, parsed: argparse.Namespace) -> int:
    config = load_config_or_exit(options)
    try:
        source = _source_config(config, parsed.source)
        _check_pair(source, config)
        copied = _copy(source, config)
    except Refused as refused:
        return print_problems("copy", [str(refused)], refused.code)
    print(
        f"copied {parsed.source} to {place_of(config)}: {copied.streams:,} streams, {copied.payload_bytes:,} bytes of "
        f"payload; {copied.present:,} streams were there already"
    )
    return print_problems("copy", copied.problems, ExitCode.DAMAGED if copied.problems else ExitCode.OK)


def _source_config(config: Config, text: str) -> Config:
    """The configuration that opens the source: a database, or a data directory, which says what mode it is of."""
    if text == DATABASE.name or "://" in text:
        dsn = config.postgres.dsn if text == DATABASE.name else text
        if not dsn:
            raise Refused(
                ExitCode.CONFIGURATION, f"{DATABASE.place} must be set: it says where the source is"
            )
        return _with(config, {"mode": DATABASE.name}, {"dsn": dsn})
    directory = Path(text)
    modes = modes_marked(directory)
    if not modes:
        raise Refused(ExitCode.NO_DATA, f"{directory} is no data directory")
    # Both file modes read the same directory.
    mode = MODES[modes[-1]]
    with refusals():
        mode.check_installed()
        fixed = mode.fixed(directory)
    return _with(config, {"mode": mode.name, "data_dir": directory, "acid_backend": "file", **fixed}, {})


def _with(config: Config, storage: Mapping[str, Any], postgres: Mapping[str, Any]) -> Config:
    return config.model_copy(
        update={
            "storage": config.storage.model_copy(update=storage),
            DATABASE_TABLE: config.postgres.model_copy(update=postgres),
        }
    )


def _check_pair(source: Config, target: Config) -> None:
    mode = mode_of(target.storage)
    if not mode.is_durable:
        raise Refused(ExitCode.CONFIGURATION, f"storage.mode = {mode.name}: nothing of a copy would be left")
    if place_of(source) == place_of(target):
        raise Refused(ExitCode.CONFIGURATION, f"the source and the target are the same: {place_of(target)}")


def _copy(source_config: Config, target_config: Config) -> Copied:
    """Raises Refused for whatever keeps it from being carried out. What has been copied by then stays."""
    with (
        opened(source_config) as source,
        opened(target_config) as target,
        refusals(),
        tqdm(
            total=count_payload(source),
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            file=sys.stdout,
            disable=not sys.stdout.isatty(),
        ) as bar,
    ):
        return copy_streams(source, target, bar.update)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a data directory, `postgresql://...`, or the word `postgres` for the database that is configured",
    )


COPY: Final = Command(
    "copy",
    "Copy all streams of another storage into the one that is configured; both must be stopped.",
    _run,
    _add_source,
)
