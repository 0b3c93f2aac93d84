"""One record for each request: its fields and its level; a second one when an event stream ends.

A request whose record is filtered out costs one look-up in a tuple.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from durable_streams.config.log_filter import LogFilter
from durable_streams.config.settings import LogSettings
from durable_streams.exchanges import Exchange, Problem
from durable_streams.telemetry.formats import FIELDS_ATTRIBUTE
from durable_streams.telemetry.redaction import redact
from durable_streams.telemetry.request_ids import REQUEST_ID

REQUEST_TARGET: Final = "durable_streams.request"

_COMPLETED: Final = (logging.INFO, "request completed")
_CLIENT_ERROR: Final = (logging.WARNING, "request completed with client error")
_FAILED: Final = (logging.ERROR, "request failed")
# By the first digit of the status; an unknown class counts as a failure.
_OUTCOMES: Final = (
    _FAILED,
    _COMPLETED,
    _COMPLETED,
    _COMPLETED,
    _CLIENT_ERROR,
    _FAILED,
    _FAILED,
    _FAILED,
    _FAILED,
    _FAILED,
)


class RequestLog:
    """The records of requests, under the target `durable_streams.request`; an observer of the web floor."""

    def __init__(self, settings: LogSettings, storage_mode: str) -> None:
        lowest_level = LogFilter.parse(settings.rust_log).level_for(REQUEST_TARGET)
        self._wanted = tuple(level >= lowest_level for level, _ in _OUTCOMES)
        self._storage_mode = storage_mode
        self._logger = logging.getLogger(REQUEST_TARGET)

    @property
    def wants_any(self) -> bool:
        """Whether any request is logged at all."""
        return any(self._wanted)

    def finished(self, exchange: Exchange, status: int, duration_ns: int, error: Problem | None) -> None:
        """Log a response with `status` (100 to 999) `duration_ns` after its request began, if that is wanted."""
        if not self._wanted[status // 100]:
            return
        level, message = _OUTCOMES[status // 100]
        fields = self._fields(exchange, status, duration_ns) | _error_fields(status, error)
        if exchange.live == "long-poll" and error is None:
            fields |= _end_fields(exchange)
        self._log(level, message, fields)

    def ended(self, exchange: Exchange, duration_ns: int) -> None:
        """Log the end of an event stream. A long-poll has ended when its one record is written."""
        if exchange.live != "sse" or not self._wanted[2]:
            return
        fields = self._fields(exchange, 200, duration_ns) | _end_fields(exchange)
        self._log(logging.INFO, "event stream ended", fields)

    def _fields(self, exchange: Exchange, status: int, duration_ns: int) -> dict[str, Any]:
        return {
            "ds.operation": exchange.operation,
            "ds.stream_id": exchange.name or None,
            "ds.live_mode": exchange.live,
            **_request_fields(exchange.environ, exchange.name),
            "http.response.status_code": status,
            "event.duration": duration_ns,
            "ds.storage.backend": self._storage_mode,
        }

    def _log(self, level: int, message: str, fields: dict[str, Any]) -> None:
        logger = self._logger
        extra = {FIELDS_ATTRIBUTE: {name: value for name, value in fields.items() if value is not None}}
        logger.handle(logger.makeRecord(logger.name, level, "", 0, message, (), None, extra=extra))


def _end_fields(exchange: Exchange) -> dict[str, Any]:
    """How a live read has ended."""
    return {"http.response.body.bytes": exchange.sent_bytes, "ds.live_end": exchange.end}


def _request_fields(environ: Mapping[str, Any], stream_id: str) -> dict[str, Any]:
    path = _readable(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""))
    return {
        "http.request.id": environ.get(REQUEST_ID),
        "http.request.method": environ.get("REQUEST_METHOD"),
        "http.route": _route(path, stream_id),
        "url.path": path,
        "url.query": redact(environ.get("QUERY_STRING", "")) or None,
        "server.address": _host_name(environ),
        "client.address": environ.get("REMOTE_ADDR") or None,
        "user_agent.original": environ.get("HTTP_USER_AGENT"),
        "network.protocol.version": environ.get("SERVER_PROTOCOL", "").partition("/")[2] or None,
    }


def _readable(wsgi_text: str) -> str:
    """WSGI passes bytes as Latin-1 (PEP 3333); names are UTF-8."""
    if wsgi_text.isascii():
        return wsgi_text
    return wsgi_text.encode("latin-1", "replace").decode("utf-8", "replace")


def _route(path: str, stream_id: str) -> str | None:
    """The path with the stream's name, all of its segments, replaced by a placeholder."""
    if stream_id and path.endswith(stream_id):
        return path[: -len(stream_id)] + "{name}"
    return None


def _host_name(environ: Mapping[str, Any]) -> str | None:
    """The host that the client asked for, without its port."""
    host: str = environ.get("HTTP_HOST") or environ.get("SERVER_NAME") or ""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host) or None


def _error_fields(status: int, problem: Any) -> dict[str, Any]:
    if status < 400:
        return {}
    fallback = "client_error" if status < 500 else "server_error"
    return {
        "error.type": getattr(problem, "type", None) or fallback,
        # Internal errors log their `cause`; the client sees a generic detail.
        "error.message": getattr(problem, "cause", None) or getattr(problem, "detail", None),
        "ds.error_code": getattr(problem, "code", None),
    }
