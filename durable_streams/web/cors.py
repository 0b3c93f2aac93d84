"""Headers for browsers on every response: CORS and the security headers of section 12.7."""

from __future__ import annotations

from typing import Final

from durable_streams.web.response import Environ, Header, Response

SECURITY: Final[list[Header]] = [
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
]
# `*` allows no credentials, and without them one star exposes every header.
FOR_ANY: Final[list[Header]] = [
    *SECURITY,
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "*"),
]
ALLOWED_HEADERS: Final = ", ".join(
    (
        "Authorization",
        "Cache-Control",
        "Content-Type",
        "If-None-Match",
        "Last-Event-ID",
        "Producer-Epoch",
        "Producer-Id",
        "Producer-Seq",
        "Stream-Closed",
        "Stream-Expires-At",
        "Stream-Fork-Offset",
        "Stream-Fork-Sub-Offset",
        "Stream-Forked-From",
        "Stream-Seq",
        "Stream-TTL",
    )
)
EXPOSED_HEADERS: Final = ", ".join(
    (
        "Allow",
        "ETag",
        "Location",
        "Producer-Epoch",
        "Producer-Expected-Seq",
        "Producer-Received-Seq",
        "Producer-Seq",
        "Retry-After",
        "Stream-Closed",
        "Stream-Cursor",
        "Stream-Expires-At",
        "Stream-Next-Offset",
        "Stream-SSE-Data-Encoding",
        "Stream-TTL",
        "Stream-Up-To-Date",
    )
)
PREFLIGHT_SECONDS: Final = "86400"


class CorsHeaders:
    """The headers for one setting of ``http.cors_origins``: ``("*",)``, a list of origins, or none."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)
        self._varying: list[Header] = [*SECURITY, ("Vary", "Origin")]
        self.of_all: list[Header] | None = None
        """The headers of every response, unless they depend on the origin of the request."""
        if "*" in origins:
            self.of_all = FOR_ANY
        elif not origins:
            self.of_all = SECURITY

    def of(self, environ: Environ) -> list[Header]:
        """Headers to append to the response; the list is shared and must not be changed."""
        if self.of_all is not None:
            return self.of_all
        origin = environ.get("HTTP_ORIGIN")
        if origin is None or origin not in self._origins:
            return self._varying
        return [*self._varying, *_cors(origin)]


def _cors(origin: str) -> list[Header]:
    return [
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Expose-Headers", EXPOSED_HEADERS),
    ]


def preflight(allowed_methods: str) -> Response:
    """The response to OPTIONS: the same for every origin, which ``CorsHeaders`` judges."""
    return Response(
        204,
        [
            ("Allow", allowed_methods),
            ("Access-Control-Allow-Methods", allowed_methods),
            ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
            ("Access-Control-Max-Age", PREFLIGHT_SECONDS),
        ],
    )
