"""Records of the server's own life: it listens, it stops, it refuses to start.

The record of listening is the line by which a person learns where the server is and what its storage
promises. A refusal is written even when the filter says `off`, since without it the command would fail in
silence.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import IO, Any, Final

from durable_streams.config.configuration import Config
from durable_streams.storage.modes import Mode
from durable_streams.telemetry.formats import FIELDS_ATTRIBUTE, formatter_for

LIFECYCLE_TARGET: Final = "durable_streams.lifecycle"

_logger: Final = logging.getLogger(LIFECYCLE_TARGET)


def announce_files(config: Config) -> None:
    """Name the files that the configuration was read from, and those in `config/` that were ignored."""
    if config.files:
        _logger.info("settings from %s", ", ".join(config.files))
    for path in config.ignored_files:
        _logger.warning("%s is ignored: it has no table of this server", path)


def announce_listening(urls: Sequence[str], mode: Mode, pid: int) -> None:
    """The server accepts connections at `urls`; `pid` is the process to send signals to."""
    _announce(
        f"listening on {' and '.join(urls)}, storage {mode.name}: {mode.guarantee}",
        {"ds.storage.backend": mode.name, "process.pid": pid},
    )


def announce_stopping(reason: str) -> None:
    """A stop was asked for; no new work is taken."""
    _announce(f"stopping: {reason}", {"process.pid": os.getpid()})


def announce_stopped() -> None:
    """Everything has ended."""
    _announce("stopped", {"process.pid": os.getpid()})


def announce_refusal(
    startup_phase: str, reason: str, *, log_format: str, stream: IO[bytes] | None = None
) -> None:
    """The server does not start; `startup_phase` is where it found out. Written to standard error."""
    fields = {"startup_phase": startup_phase}
    message = f"[{startup_phase}] {reason}"
    record = _logger.makeRecord(
        LIFECYCLE_TARGET, logging.ERROR, "", 0, message, (), None, extra={FIELDS_ATTRIBUTE: fields}
    )
    out = stream or sys.stderr.buffer
    out.write((formatter_for(log_format).format(record) + "\n").encode("utf-8", "backslashreplace"))
    out.flush()


def _announce(message: str, fields: dict[str, Any]) -> None:
    _logger.info("%s", message, extra={FIELDS_ATTRIBUTE: fields})
