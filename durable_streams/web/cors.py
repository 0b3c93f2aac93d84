"""What browsers need: CORS and the security headers of section 12.7 on every response, and no writes by other pages."""

from __future__ import annotations

import re
from typing import Final

from durable_streams.config import HttpSettings
from durable_streams.protocol.errors import CrossOriginWrite
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
ALLOWED_HEADERS: Final = (
    "Authorization",
    "Cache-Control",
    "Content-Encoding",
    "Content-Type",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "Producer-Epoch",
    "Producer-Id",
    "Producer-Seq",
    "Stream-Closed",
    "Stream-Expected-Offset",
    "Stream-Expires-At",
    "Stream-Fork-Offset",
    "Stream-Fork-Sub-Offset",
    "Stream-Forked-From",
    "Stream-Message-Offsets",
    "Stream-Seq",
    "Stream-TTL",
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
        "RateLimit",
        "RateLimit-Policy",
        "Retry-After",
        "Stream-Closed",
        "Stream-Cursor",
        "Stream-Expires-At",
        "Stream-Message-Offsets",
        "Stream-Next-Offset",
        "Stream-SSE-Data-Encoding",
        "Stream-TTL",
        "Stream-Up-To-Date",
    )
)
PREFLIGHT_SECONDS: Final = "86400"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEADER_LIST: Final = re.compile(rf"{_TOKEN}(?:[ \t]*,[ \t]*{_TOKEN})*")

# RFC 6761 section 6.3: every name below localhost is this machine.
LOCAL_HOST: Final = re.compile(
    r"(?:(?:[a-z0-9-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])\.?(?::\d+)?", re.IGNORECASE
)


class CorsHeaders:
    """The headers for one setting of ``http.cors_origins``: ``("*",)``, a list of origins, or none."""

    def __init__(self, http: HttpSettings) -> None:
        origins = http.cors_origins
        self._origins = frozenset(origins)
        self._allows_any = "*" in origins
        self._allowed_headers = ", ".join((*ALLOWED_HEADERS, *http.cors_allowed_headers))
        self._varying: list[Header] = [*SECURITY, ("Vary", "Origin")]
        self.of_all: list[Header] | None = None
        """The headers of every response, unless they depend on the origin of the request."""
        if self._allows_any:
            self.of_all = FOR_ANY
        elif not origins:
            self.of_all = SECURITY
        self.refuse_foreign_write = _refuse_foreign_delete if self._allows_any else self._refuse_foreign_write
        """Raises CrossOriginWrite for a write by a page of an origin that is not allowed."""

    def of(self, environ: Environ) -> list[Header]:
        """Headers to append to the response; the list is shared and must not be changed."""
        if self.of_all is not None:
            return self.of_all
        origin = environ.get("HTTP_ORIGIN")
        if origin is None or origin not in self._origins:
            return self._varying
        return [*self._varying, *_cors(origin)]

    @property
    def of_unread(self) -> list[Header]:
        """Headers of the response to a request that could not be read, so that not even its origin is known.

        Such a response tells nothing of anybody's data: with several origins every page may read it.
        """
        if self.of_all is not None:
            return self.of_all
        if len(self._origins) == 1:
            return [*self._varying, *_cors(*self._origins)]
        return FOR_ANY

    def preflight(self, environ: Environ, allowed_methods: str) -> Response:
        """The response to OPTIONS. Its origin is judged by ``of`` alone, so it is the same for every one."""
        asked = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
        # Not ``*``, which by the Fetch standard leaves out Authorization.
        allowed = asked if self._allows_any and _HEADER_LIST.fullmatch(asked) else self._allowed_headers
        return Response(
            204,
            [
                ("Allow", allowed_methods),
                ("Access-Control-Allow-Methods", allowed_methods),
                ("Access-Control-Allow-Headers", allowed),
                ("Access-Control-Max-Age", PREFLIGHT_SECONDS),
            ],
        )

    def _refuse_foreign_write(self, environ: Environ) -> None:
        """Browsers send the simplest POST of any page without a preflight; CORS only hides its response."""
        origin = environ.get("HTTP_ORIGIN")
        if origin is None or origin in self._origins or environ["REQUEST_METHOD"] in SAFE_METHODS:
            return
        if not is_same_origin(environ, origin):
            raise CrossOriginWrite(origin)


def _refuse_foreign_delete(environ: Environ) -> None:
    """The star is the default, also on the machine of a developer: a page of the web must not delete there."""
    if environ["REQUEST_METHOD"] != "DELETE":
        return
    origin = environ.get("HTTP_ORIGIN")
    if origin is None or not LOCAL_HOST.fullmatch(environ.get("HTTP_HOST", "")):
        return
    if not LOCAL_HOST.fullmatch(origin.partition("://")[2]) and not is_same_origin(environ, origin):
        raise CrossOriginWrite(origin)


def is_same_origin(environ: Environ, origin: str) -> bool:
    """Whether the page came from this server. The scheme is not compared: a proxy may have ended TLS."""
    if environ.get("HTTP_SEC_FETCH_SITE") == "same-origin":
        return True
    return origin.partition("://")[2] == environ.get("HTTP_HOST")


def _cors(origin: str) -> list[Header]:
    return [
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Expose-Headers", EXPOSED_HEADERS),
    ]
