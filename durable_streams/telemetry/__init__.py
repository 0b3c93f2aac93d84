"""Telemetry: structured log records with the field names of ECS and OpenTelemetry.

Standard logging carries the records, so a program that embeds the server routes them as it routes its own;
only the server's own processes install handlers. structlog was considered: it would add a second pipeline
in front of the same handlers and cost more a record, without a field or a filter that is missing here.
"""

from durable_streams.telemetry.lifecycle import (
    announce_files,
    announce_listening,
    announce_stopped,
    announce_stopping,
)
from durable_streams.telemetry.logs import install_logging
from durable_streams.telemetry.requests import RequestLog

__all__ = [
    "RequestLog",
    "announce_files",
    "announce_listening",
    "announce_stopped",
    "announce_stopping",
    "install_logging",
]
