"""One record a request: which fields it has and at which level it is logged.

`wants` is one look-up in a tuple, so that a request whose record is filtered out pays for nothing else.
`record` is called when the answer is complete or has begun; the caller measures the duration.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol

from durable_streams.config.log_filter import LogFilter
from durable_streams.config.settings import LogSettings
from durable_streams.telemetry.formats import FIELDS_ATTRIBUTE

REQUEST_TARGET: Final = "durable_streams.request"

_COMPLETED: Final = (logging.INFO, "request completed")
_CLIENT_ERROR: Final = (logging.WARNING, "request completed with client error")
_FAILED: Final = (logging.ERROR, "request failed")
# By the first digit of the status; what is no HTTP status at all counts as a failure.
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


class Problem(Protocol):
    """What a record takes from an error: the problem type, its code, and its sentence for people.

    An error may also have a ``cause``, which is recorded instead of that sentence.
    """

    @property
    def type(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def detail(self) -> str | None: ...


class RequestLog:
    """The records of requests, under the target `durable_streams.request`."""

    def __init__(self, settings: LogSettings, storage_mode: str) -> None:
        lowest_level = LogFilter.parse(settings.rust_log).level_for(REQUEST_TARGET)
        self._wanted = tuple(level >= lowest_level for level, _ in _OUTCOMES)
        self._storage_mode = storage_mode
        self._logger = logging.getLogger(REQUEST_TARGET)

    def wants(self, status: int) -> bool:
        """Whether a request that was answered with `status` (100 to 999) is logged at all."""
        return self._wanted[status // 100]

    def record(
        self,
        environ: Mapping[str, Any],
        *,
        operation: str,
        stream_id: str | None,
        live_mode: str | None,
        status: int,
        duration_ns: int,
        problem: object | None = None,
    ) -> None:
        """Log one request. `problem` is anything with `type`, `code` and `detail`, or None."""
        level, message = _OUTCOMES[status // 100]
        fields = {
            "ds.operation": operation,
            "ds.stream_id": stream_id,
            "ds.live_mode": live_mode,
            **_request_fields(environ, stream_id),
            "http.response.status_code": status,
            "event.duration": duration_ns,
            "ds.storage.backend": self._storage_mode,
            **_error_fields(status, problem),
        }
        present = {name: value for name, value in fields.items() if value is not None}
        logger = self._logger
        extra = {FIELDS_ATTRIBUTE: present}
        logger.handle(logger.makeRecord(logger.name, level, "", 0, message, (), None, extra=extra))


def _request_fields(environ: Mapping[str, Any], stream_id: str | None) -> dict[str, Any]:
    path = _readable(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""))
    return {
        "http.request.method": environ.get("REQUEST_METHOD"),
        "http.route": _route(path, stream_id),
        "url.path": path,
        "url.query": environ.get("QUERY_STRING") or None,
        "server.address": _host_name(environ),
        "client.address": environ.get("REMOTE_ADDR") or None,
        "user_agent.original": environ.get("HTTP_USER_AGENT"),
        "network.protocol.version": environ.get("SERVER_PROTOCOL", "").partition("/")[2] or None,
    }


def _readable(wsgi_text: str) -> str:
    """WSGI hands bytes over as Latin-1; names are UTF-8 (PEP 3333)."""
    if wsgi_text.isascii():
        return wsgi_text
    return wsgi_text.encode("latin-1", "replace").decode("utf-8", "replace")


def _route(path: str, stream_id: str | None) -> str | None:
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
        # What the client is told no more of than that it happened has a cause, which is for the operator.
        "error.message": getattr(problem, "cause", None) or getattr(problem, "detail", None),
        "ds.error_code": getattr(problem, "code", None),
    }
