"""The command `keys`: rotates the key that signs webhooks, in a data directory or at a running server.

A running server owns its directory, so it is asked over HTTP; docs/subscriptions.md explains when a new key signs.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from time import time
from typing import TYPE_CHECKING, Final

from durable_streams.cli.command import Command
from durable_streams.config import Config, ConfigLoadOptions
from durable_streams.extras import MissingExtra, require_extra
from durable_streams.protocol.errors import ProtocolError, Unavailable
from durable_streams.protocol.subscriptions.wire import timestamp
from durable_streams.startup import ExitCode, load_config_or_exit
from durable_streams.storage.modes import mode_of
from durable_streams.storage.on_disk.directory import DirectoryInUse

if TYPE_CHECKING:
    from durable_streams.streams.store import StreamStore

TIMEOUT_S: Final = 30.0
PROGRAM: Final = "durable-streams-server keys"


def _run(options: ConfigLoadOptions, parsed: argparse.Namespace) -> int:
    if parsed.url is not None:
        return _rotate_at(parsed.url, parsed.header)
    return _rotate_in(load_config_or_exit(options))


def _rotate_at(url: str, headers: list[str]) -> int:
    """Ask the server whose stream root is ``url``."""
    request = urllib.request.Request(f"{url.rstrip('/')}/__ds/keys", data=b"", method="POST")
    for header in headers:
        name, _, value = header.partition(":")
        request.add_header(name.strip(), value.strip())
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            key = json.load(response)
            return _say_key(key["kid"], key["signs_from"], is_new=response.status == 201)
    except urllib.error.HTTPError as exc:
        return _refuse(ExitCode.FAILURE, f"the server answered {exc.code} {exc.reason}")
    except (OSError, ValueError, KeyError) as exc:
        return _refuse(ExitCode.FAILURE, f"no answer from {url} ({exc})")


def _rotate_in(config: Config) -> int:
    """Open the storage that the configuration names, which no server may own."""
    mode = mode_of(config.storage)
    if mode.maintenance is None and not mode.shared:
        return _refuse(
            ExitCode.CONFIGURATION, f"storage.mode = {mode.name} keeps no keys: name a server with --url"
        )
    # Other commands load no storage and no event loop.
    from durable_streams.streams.batch import Limits
    from durable_streams.streams.store import StreamStore

    try:
        require_extra("subscriptions", "a signing key")
        store = StreamStore(mode.build(config), Limits())
        store.open()
    except MissingExtra as exc:
        return _refuse(ExitCode.CONFIGURATION, str(exc))
    except DirectoryInUse as exc:
        return _refuse(ExitCode.IN_USE, f"{exc}; name the server that runs with --url")
    except Unavailable as exc:
        return _refuse(ExitCode.FAILURE, exc.cause)
    except (OSError, ValueError) as exc:
        return _refuse(ExitCode.INPUT_OUTPUT, str(exc))
    try:
        return _rotate(store)
    except ProtocolError as exc:
        return _refuse(ExitCode.FAILURE, exc.detail)
    finally:
        store.close()


def _rotate(store: StreamStore) -> int:
    from durable_streams.subscriptions.webhooks.keys import Keys

    key, is_new = Keys(store.documents, time).rotate()
    return _say_key(key.kid, timestamp(key.signs_from), is_new=is_new)


def _say_key(kid: str, signs_from: str, *, is_new: bool) -> int:
    print(f"{kid} {'is published and' if is_new else 'was published before and'} signs from {signs_from}")
    return ExitCode.OK


def _refuse(code: ExitCode, reason: str) -> int:
    print(f"{PROGRAM}: {reason}", file=sys.stderr)
    return code


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", choices=["rotate"], help="publish the next key, which signs after five minutes"
    )
    parser.add_argument("--url", metavar="URL", help="the stream root of a running server")
    parser.add_argument(
        "--header",
        metavar="HEADER",
        action="append",
        default=[],
        help="a header for that server, such as 'Authorization: Bearer ...'; may be repeated",
    )


KEYS = Command("keys", "Rotate the key that signs webhooks.", _run, _add_arguments)
