"""The command `sign-url`: a URL that lets whoever has it read one stream for a while. docs/access.md is its page."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from durable_streams.access.building import url_signer
from durable_streams.access.signed_urls import METHODS, PARAMETER
from durable_streams.access.watched_file import FileDamaged
from durable_streams.cli.command import Command
from durable_streams.cli.tokens import duration
from durable_streams.config import ConfigLoadOptions
from durable_streams.startup import ExitCode, load_config_or_exit

LIFETIME_S: Final = 900


def _run(options: ConfigLoadOptions, parsed: argparse.Namespace) -> int:
    auth = load_config_or_exit(options).auth
    try:
        signer = url_signer(auth)
        if signer is None:
            return _refuse(
                ExitCode.CONFIGURATION, "auth.url_keys_path is not set, so there are no signed URLs"
            )
        if parsed.url is None:
            print(f"{PARAMETER}={signer.token(parsed.stream, parsed.expires, parsed.method)}")
        else:
            print(signer.url(parsed.url, parsed.stream, parsed.expires, parsed.method, **_parameters(parsed)))
    except FileDamaged as damaged:
        return _refuse(ExitCode.DAMAGED, str(damaged))
    except ValueError as exc:
        return _refuse(ExitCode.USAGE, str(exc))
    except OSError as exc:
        if exc.filename is None:
            # Standard output, which the caller reports.
            raise
        return _refuse(ExitCode.INPUT_OUTPUT, f"{exc.filename}: {exc.strerror}")
    return ExitCode.OK


def _parameters(parsed: argparse.Namespace) -> dict[str, str]:
    if parsed.method != "GET":
        return {}
    return {"offset": parsed.offset, **({"live": parsed.live} if parsed.live else {})}


def _refuse(code: ExitCode, reason: str) -> ExitCode:
    print(f"durable-streams-server sign-url: {reason}", file=sys.stderr)
    return code


def _seconds(text: str) -> int:
    return int(duration(text))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM", help="the name of the stream, as team-a/notes")
    parser.add_argument(
        "--expires",
        type=_seconds,
        default=LIFETIME_S,
        metavar="TIME",
        help="how long, as 15m (the default) or 12h",
    )
    parser.add_argument("--method", choices=METHODS, default="GET", help="what for; GET is the default")
    parser.add_argument(
        "--url",
        metavar="ROOT",
        help="print the whole URL; ROOT is where streams are, as https://host/v1/stream",
    )
    parser.add_argument(
        "--offset", default="-1", help="with --url: where to begin; -1, the start, is the default"
    )
    parser.add_argument("--live", choices=["sse", "long-poll"], help="with --url: a live read")


SIGN_URL: Final = Command(
    "sign-url", "Sign a URL that lets whoever has it read one stream.", _run, _add_arguments
)
