"""Responses of the control plane: JSON, and errors in an envelope of their own (sections 6 and 7)."""

from __future__ import annotations

import json
from typing import Any, Final

from durable_streams.protocol.caching import NO_STORE
from durable_streams.protocol.errors import ProtocolError
from durable_streams.web.problems import escape_header
from durable_streams.web.response import Environ, Response

JSON: Final = "application/json"


def json_response(
    status: int, body: bytes, *, media_type: str = JSON, cache_control: str = NO_STORE
) -> Response:
    """``body`` is JSON already."""
    return Response(status, [("Content-Type", media_type), ("Cache-Control", cache_control)], body)


def error_response(error: ProtocolError, environ: Environ) -> Response:
    """``{"error": {"code", "message", ...}}``; to HEAD the same headers without the body."""
    extras: dict[str, Any] = dict(getattr(error, "extras", {}))
    document = {"error": {"code": error.code, "message": error.detail, **extras}}
    body = json.dumps(document).encode("ascii")
    headers = [("Content-Type", JSON), ("Cache-Control", NO_STORE), *map(escape_header, error.headers)]
    if environ["REQUEST_METHOD"] == "HEAD":
        return Response(error.status, headers, iter(()))
    return Response(error.status, headers, body)
