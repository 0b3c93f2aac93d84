"""How a log record becomes a line: text for people, or one JSON object for machines.

Stream names, user agents and messages come from strangers. Whatever they contain, a record is one line and
nothing in it can pass for the start of another.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from durable_streams.config.errors import escape_line
from durable_streams.telemetry.redaction import redact

ECS_VERSION: Final = "8.11.0"
FIELDS_ATTRIBUTE: Final = "fields"
_LEVEL_NAMES: Final = {5: "trace", 10: "debug", 20: "info", 30: "warn", 40: "error", 50: "error"}
# A value made of these can stand without quotes and still be told from its neighbours.
_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9._~/:+@*,;()%&!?$<>{}'-]+")


class TextFormatter(logging.Formatter):
    """`2026-11-23T10:17:00.123Z  INFO durable_streams.request: request completed ds.operation=append ...`"""

    def format(self, record: logging.LogRecord) -> str:
        level = _level_name(record).upper()
        line = f"{timestamp(record.created)} {level:>5} {record.name}: {escape_line(redact(record.getMessage()))}"
        for name, value in fields_of(record).items():
            line += f" {name}={text_value(value)}"
        if record.exc_info:
            # The trace repeats messages of exceptions, and those may repeat what a client sent.
            trace = redact(self.formatException(record.exc_info))
            line += "".join(f"\n    | {escape_line(part)}" for part in trace.splitlines())
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with dotted field names; pure ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "@timestamp": timestamp(record.created),
            "log.level": _level_name(record),
            "message": redact(record.getMessage()),
            "ecs.version": ECS_VERSION,
            "log.logger": record.name,
            "process.pid": record.process,
            **fields_of(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            document["error.type"] = record.exc_info[0].__name__
            document["error.message"] = redact(str(record.exc_info[1]))
            document["error.stack_trace"] = redact(self.formatException(record.exc_info))
        return json.dumps(document, default=str)


def formatter_for(log_format: str) -> logging.Formatter:
    """The formatter of the setting `log.format`."""
    return JsonFormatter() if log_format == "json" else TextFormatter()


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """The structured part of a record; records of other libraries have none."""
    fields: Mapping[str, Any] = getattr(record, FIELDS_ATTRIBUTE, {})
    return fields


def timestamp(seconds: float) -> str:
    """UTC with milliseconds, as RFC 3339 writes it."""
    whole = int(seconds)
    millis = int((seconds - whole) * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{millis:03d}Z"


def text_value(value: object) -> str:
    """A value that a person can read, quoted unless it is one plain word."""
    text = str(value)
    if _PLAIN_WORD.fullmatch(text):
        return text
    return escape_line(json.dumps(text, ensure_ascii=False))


def _level_name(record: logging.LogRecord) -> str:
    return _LEVEL_NAMES.get(record.levelno, record.levelname.lower())
