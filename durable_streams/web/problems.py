"""An error as application/problem+json (RFC 9457): any ProtocolError, without knowing one by name."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from werkzeug.exceptions import HTTPException

from durable_streams.protocol.caching import NO_STORE
from durable_streams.protocol.errors import InternalError, MethodNotAllowed, ProtocolError, RouteNotFound
from durable_streams.telemetry.request_ids import REQUEST_ID
from durable_streams.web.response import Environ, Response

PROBLEM_TYPE: Final = "application/problem+json"


def problem_response(error: ProtocolError, environ: Environ) -> Response:
    """The response that reports ``error``; to HEAD the same headers without the body."""
    document = {
        "type": error.type,
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "instance": request_path(environ),
    }
    if REQUEST_ID in environ:
        document["request_id"] = environ[REQUEST_ID]
    headers = [
        ("Content-Type", PROBLEM_TYPE),
        ("Cache-Control", NO_STORE),
        *map(escape_header, error.headers),
    ]
    body = json.dumps(document).encode("ascii")
    if environ["REQUEST_METHOD"] == "HEAD":
        return Response(error.status, headers, iter(()))
    return Response(error.status, headers, body)


def as_protocol_error(exc: Exception, method: str) -> ProtocolError:
    """What the client is told of ``exc``: an ``abort()`` of Flask keeps its status, a bug is an internal error."""
    if isinstance(exc, ProtocolError):
        return exc
    if not isinstance(exc, HTTPException):
        return InternalError(repr(exc))
    if exc.code == 405:
        return MethodNotAllowed(method, ", ".join(sorted(getattr(exc, "valid_methods", None) or ())))
    if exc.code == 404:
        return RouteNotFound()
    error = ProtocolError(exc.description or exc.name, _headers_of(exc))
    error.status, error.title = exc.code or 500, exc.name
    error.type = "/errors/" + exc.name.lower().replace(" ", "-")
    error.code = exc.name.upper().replace(" ", "_")
    return error


def request_path(environ: Environ) -> str:
    """The path of the request target, percent-encoded as it has to be in a URL."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return quote(path.encode("latin-1"), safe="/:@!$&'()*+,;=~")


def _headers_of(exc: HTTPException) -> list[tuple[str, str]]:
    """Those that belong to the status, such as WWW-Authenticate and Retry-After; not those of Werkzeug's page."""
    return [(name, str(value)) for name, value in exc.get_headers() if name != "Content-Type"]


def escape_header(header: tuple[str, str]) -> tuple[str, str]:
    name, value = header
    return name, value.replace("\r", " ").replace("\n", " ")
