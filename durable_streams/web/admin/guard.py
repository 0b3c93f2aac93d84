"""Pages for operators are for no other page: no CORS, no writes of a foreign page, and this machine alone where nobody
asks for a token.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, request
from flask import Response as FlaskResponse

from durable_streams.protocol.errors import CrossOriginWrite, Forbidden
from durable_streams.web.cors import LOCAL_HOST, SAFE_METHODS, is_same_origin
from durable_streams.web.response import Environ

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class ForeignHost(Forbidden):
    """Without access control, a page of the web could reach this machine by a name of its own (DNS rebinding)."""

    type, title, code = "/errors/foreign-host", "Foreign Host", "FOREIGN_HOST"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"Without access control this is served to localhost alone, and the host was {host!r}: set auth.mode"
        )


def guard(blueprint: Blueprint, *, gated: bool) -> None:
    """Refuse foreign pages and hosts at every route of ``blueprint``; ``gated``: something controls access."""

    def check() -> None:
        if not gated:
            check_local(request.environ)
        check_origin(request.environ)

    def add_headers(response: FlaskResponse) -> FlaskResponse:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    blueprint.before_request(check)
    blueprint.after_request(add_headers)


def check_local(environ: Environ) -> None:
    """Raises ForeignHost unless the request names this machine as localhost."""
    host = environ.get("HTTP_HOST", "")
    if not LOCAL_HOST.fullmatch(host):
        raise ForeignHost(host)


def check_origin(environ: Environ) -> None:
    """Raises CrossOriginWrite for a write that a page of another origin has caused."""
    if environ["REQUEST_METHOD"] in SAFE_METHODS:
        return
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and not is_same_origin(environ, origin):
        raise CrossOriginWrite(origin)
