"""The command `token`: make, list and revoke the bearer tokens of `auth.mode = tokens`. docs/access.md is its page."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Final

from durable_streams.access.grants import ADMIN, EVERYTHING, SCOPES, check_pattern
from durable_streams.access.token_file import (
    TOKENS_MAX,
    TokenFileDamaged,
    TokenRecord,
    changing,
    new_token,
    read_records,
)
from durable_streams.cli.command import Command
from durable_streams.config import ConfigLoadOptions
from durable_streams.startup import ExitCode, load_config_or_exit

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class _Refused(Exception):
    """The command does not do it; the message is the reason."""

    def __init__(self, code: ExitCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _run(options: ConfigLoadOptions, parsed: argparse.Namespace) -> int:
    path = load_config_or_exit(options).auth.tokens_path
    action: Callable[[Path, argparse.Namespace], None] = parsed.action
    try:
        action(path, parsed)
    except _Refused as refused:
        return _say(str(refused), refused.code)
    except TokenFileDamaged as damaged:
        return _say(str(damaged), ExitCode.DAMAGED)
    except OSError as exc:
        if exc.filename is None:
            # Standard output, which the caller reports.
            raise
        return _say(f"{exc.filename}: {exc.strerror}", ExitCode.INPUT_OUTPUT)
    return ExitCode.OK


def _say(reason: str, code: ExitCode) -> ExitCode:
    print(f"durable-streams-server token: {reason}", file=sys.stderr)
    return code


def _create(path: Path, parsed: argparse.Namespace) -> None:
    expires_at = None if parsed.expires is None else time() + parsed.expires
    token, record = new_token(parsed.name, parsed.scope, parsed.streams or [EVERYTHING], expires_at)
    if ADMIN in record.scopes and EVERYTHING not in record.streams:
        raise _Refused(ExitCode.USAGE, "admin is a scope of the whole server: leave out --streams")
    with changing(path) as records:
        if any(other.name == record.name for other in records):
            raise _Refused(ExitCode.USAGE, f"there is a token {record.name} already; revoke it first")
        if len(records) >= TOKENS_MAX:
            raise _Refused(ExitCode.USAGE, f"there are {TOKENS_MAX} tokens, and that is the limit")
        records.append(record)
    print(token)
    print(f"{record.id} {record.name}: shown once, keep it secret", file=sys.stderr)


def _list(path: Path, parsed: argparse.Namespace) -> None:
    for record in read_records(path):
        print(json.dumps(_shown(record)) if parsed.json else "  ".join(map(str, _shown(record).values())))


def _shown(record: TokenRecord) -> dict[str, str]:
    return {
        "id": record.id,
        "name": record.name,
        "scopes": " ".join(record.scopes),
        "streams": " ".join(record.streams),
        "created": _time(record.created_at),
        "expires": "never" if record.expires_at is None else _time(record.expires_at),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _revoke(path: Path, parsed: argparse.Namespace) -> None:
    with changing(path) as records:
        kept = [record for record in records if parsed.token not in (record.id, record.name)]
        if len(kept) == len(records):
            raise _Refused(ExitCode.NO_DATA, f"there is no token {parsed.token}")
        records[:] = kept


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a token and print it, once", allow_abbrev=False)
    create.add_argument("--name", type=_name, required=True, help="whose token it is")
    create.add_argument(
        "--scope", type=_scopes, required=True, metavar="SCOPES", help=f"some of: {' '.join(SCOPES)}"
    )
    create.add_argument(
        "--streams",
        action="append",
        type=_pattern,
        metavar="GLOB",
        help="which streams, as team-a/**; may be repeated",
    )
    create.add_argument(
        "--expires",
        type=duration,
        metavar="TIME",
        help="after how long it ends, as 12h, 30d or 8w; never without it",
    )
    create.set_defaults(action=_create)
    listing = actions.add_parser("list", help="list the tokens, without what is secret", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(action=_list)
    revoke = actions.add_parser("revoke", help="end a token now", allow_abbrev=False)
    revoke.add_argument("token", metavar="ID|NAME")
    revoke.set_defaults(action=_revoke)


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            "1 to 64 letters, digits and . _ @ + -, beginning with a letter or digit"
        )
    return text


def _scopes(text: str) -> list[str]:
    scopes = text.replace(",", " ").split()
    wrong = [scope for scope in scopes if scope not in SCOPES]
    if wrong or not scopes:
        raise argparse.ArgumentTypeError(
            f"{' '.join(wrong) or 'nothing'} is no scope; there are: {' '.join(SCOPES)}"
        )
    return list(dict.fromkeys(scopes))


def _pattern(text: str) -> str:
    try:
        return check_pattern(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def duration(text: str) -> float:
    """Seconds from a text such as `90m`; raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError("a number and a unit, as 90m, 12h, 30d or 8w")
    return int(found[1]) * _SECONDS[found[2]]


TOKEN: Final = Command(
    "token", "Make, list or revoke the bearer tokens of `auth.mode = tokens`.", _run, _add_arguments
)
