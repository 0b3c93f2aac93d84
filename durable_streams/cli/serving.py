"""The commands around running the server: `serve`, and `config`, which shows what it would run with."""

from __future__ import annotations

import argparse
import os

from durable_streams.cli.command import Command
from durable_streams.config import ConfigLoadOptions
from durable_streams.config.errors import quote_value
from durable_streams.config.rendering import effective_toml
from durable_streams.extras import MissingExtra
from durable_streams.startup import ExitCode, Phase, load_config_or_exit, refuse_start


def _serve(options: ConfigLoadOptions, _: argparse.Namespace) -> int:
    _check_worker_count(os.environ.get("WEB_CONCURRENCY"))
    # gunicorn is a heavy import that the other commands do without, and an optional one.
    try:
        from durable_streams.serving import ServerApplication
    except MissingExtra as exc:
        refuse_start(Phase.START_SERVER, str(exc))

    ServerApplication(options).run()
    return ExitCode.OK


def _check_worker_count(text: str | None) -> None:
    """gunicorn reads the variable when it is imported, and would end with a traceback."""
    if text is not None and not text.strip().isdecimal():
        reason = f"WEB_CONCURRENCY = {quote_value(text)}: must be a whole number, the number of workers"
        refuse_start(Phase.VALIDATE_CONFIG, reason)


def _print_config(options: ConfigLoadOptions, _: argparse.Namespace) -> int:
    print(effective_toml(load_config_or_exit(options)), end="")
    return ExitCode.OK


SERVE = Command("serve", "Serve until a signal ends it; the default command.", _serve)
CONFIG = Command("config", "Print the effective configuration and where each value came from.", _print_config)
