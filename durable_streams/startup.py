"""How a start ends early: the phases in which it can, the exit codes, and the one line that says why.

Every refusal of a start goes through `refuse_start`; nothing else writes to standard error or picks a
code.
"""

from __future__ import annotations

import os
import sys
from enum import IntEnum, StrEnum
from typing import NoReturn

from durable_streams.config import Config, ConfigError, ConfigLoadOptions
from durable_streams.telemetry.lifecycle import announce_refusal

LOG_FORMAT_VARIABLE = "DS_LOG__FORMAT"


class Phase(StrEnum):
    """Where a start can fail, in the order in which it passes through."""

    LOAD_CONFIG = "load_config"
    VALIDATE_CONFIG = "validate_config"
    CHECK_TLS_FILES = "check_tls_files"
    BUILD_TLS_CONTEXT = "build_tls_context"
    BIND_LISTENER = "bind_listener"
    OPEN_STORAGE = "open_storage"
    START_SERVER = "start_server"


class ExitCode(IntEnum):
    """What the process tells its parent. Where sysexits.h has a code for it, that one is used."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    # gunicorn gives up when a worker ends with its WORKER_BOOT_ERROR, and starts another one otherwise.
    WORKER_NOT_STARTED = 3
    DAMAGED = 65
    NO_DATA = 66
    CANNOT_LISTEN = 69
    NOT_EMPTY = 73
    INPUT_OUTPUT = 74
    IN_USE = 75
    CONFIGURATION = 78
    INTERRUPTED = 130


_CODES = {
    Phase.BIND_LISTENER: ExitCode.CANNOT_LISTEN,
    Phase.OPEN_STORAGE: ExitCode.WORKER_NOT_STARTED,
    Phase.START_SERVER: ExitCode.FAILURE,
}


def refuse_start(phase: Phase, reason: str, *, config: Config | None = None) -> NoReturn:
    """Write one line that names the phase and the reason, and end the process with the phase's exit code.

    In a worker process use `Phase.OPEN_STORAGE`: its code makes gunicorn stop too instead of trying again.
    """
    log_format = config.log.format if config is not None else os.environ.get(LOG_FORMAT_VARIABLE, "text")
    announce_refusal(phase, reason, log_format=log_format)
    sys.exit(_CODES.get(phase, ExitCode.CONFIGURATION))


def load_config_or_exit(options: ConfigLoadOptions | None = None) -> Config:
    """The configuration, or the end of the process with the line that says what is wrong with it."""
    try:
        return Config.load(options)
    except ConfigError as exc:
        refuse_start(Phase(exc.phase), str(exc))
