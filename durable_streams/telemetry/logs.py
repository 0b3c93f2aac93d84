"""The log of a server process: one handler on the root logger, and levels set as the filter says.

Logging's own hierarchy of names is the prefix matching of the filter, so a record below its level is
dropped by the usual `isEnabledFor`, before anything is built. A program that embeds the server does not
call this.
"""

from __future__ import annotations

import logging
from typing import IO, Final

from durable_streams.config.log_filter import OUR_TARGET, TRACE, LogFilter
from durable_streams.config.settings import LogSettings
from durable_streams.telemetry.formats import formatter_for
from durable_streams.telemetry.output import Output, PlainOutput, standard_output


class LineHandler(logging.Handler):
    """Writes one record as UTF-8 bytes at once, whatever the locale of the process is."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
            self._output.write(line.encode("utf-8", "backslashreplace"))
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Called once, when the process ends."""
        self._output.drain()


def install_logging(settings: LogSettings, stream: IO[bytes] | None = None) -> None:
    """Send the records of this process to `stream` (standard output), in the form that `settings` name.

    Calling it again replaces what the call before has set.
    """
    remove_logging()
    logging.addLevelName(TRACE, "TRACE")
    handler = LineHandler(standard_output() if stream is None else PlainOutput(stream))
    handler.setFormatter(formatter_for(settings.format))
    root = logging.getLogger()
    root.addHandler(handler)
    _apply(LogFilter.parse(settings.rust_log))


def remove_logging() -> None:
    """Take back what `install_logging` has set."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, LineHandler)]:
        root.removeHandler(handler)
    for name, level in _levels_before.items():
        logging.getLogger(name).setLevel(level)
    _levels_before.clear()


def _apply(log_filter: LogFilter) -> None:
    _set_level("", max(log_filter.default_level, logging.WARNING))
    _set_level(OUR_TARGET, log_filter.default_level)
    for target, level in log_filter.directives:
        _set_level(target, level)


def _set_level(name: str, level: int) -> None:
    logger = logging.getLogger(name)
    _levels_before.setdefault(name, logger.level)
    logger.setLevel(level)


_levels_before: Final[dict[str, int]] = {}
