"""The gate of the server's own access control: which scope an operation needs, and the answers to those without it.

It decides before the stream is looked at, so a refusal says nothing of whether there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic, time
from typing import Any, Final

from durable_streams.access.grants import ADMIN, CREATE, DELETE, LIVE_ACCESS, READ, WRITE, Grant, LiveAccess
from durable_streams.access.signed_urls import UrlSigner, url_token
from durable_streams.exchanges import Exchange
from durable_streams.protocol.errors import Forbidden, Unauthorized
from durable_streams.protocol.names import RESERVED

NEEDED: Final = {
    "create": CREATE,
    "append": WRITE,
    "read": READ,
    "poll": READ,
    "subscribe": READ,
    "head": READ,
    "delete": DELETE,
}
"""Operation -> scope, at the stream itself. Everything else needs ``admin``, unless it is open."""
OPEN: Final = frozenset(
    {"health", "readiness", "front_page", "openapi", "inspector", "inspector_asset", "request"}
)
"""Probes, pages that tell nothing of streams (the inspector asks for a token itself), and paths without a route."""
REALM: Final = 'Bearer realm="durable-streams"'

GrantOf = Callable[[str], Grant | None]


class AccessGate:
    """Lets a request pass that has a bearer token with the scope that it needs."""

    def __init__(
        self, grant_of: GrantOf, urls: UrlSigner | None = None, clock: Callable[[], float] = time
    ) -> None:
        """``grant_of`` gives what a token grants now; ``clock`` gives seconds since 1970.

        ``urls``: reads may be allowed by a signed URL too.
        """
        self._grant_of = grant_of
        self._urls = urls
        self._clock = clock

    def __call__(self, exchange: Exchange) -> None:
        """Raises Unauthorized or Forbidden; sets the principal, and how long a live read may last."""
        operation = exchange.operation
        if exchange.exempt or operation in OPEN:
            return
        token = bearer_token(exchange.environ)
        grant_now = self._by_url(exchange) if token is None else partial(self._grant_of, token)
        grant = grant_now()
        if grant is None:
            raise Unauthorized("The token is unknown, revoked or expired", f'{REALM}, error="invalid_token"')
        exchange.principal = grant.principal
        self._check(exchange, grant, NEEDED.get(operation))
        if exchange.live is not None:
            until = monotonic() + grant.expires_at - self._clock()
            exchange.environ[LIVE_ACCESS] = LiveAccess(until, lambda: grant_now() is not None)

    def _by_url(self, exchange: Exchange) -> Callable[[], Grant | None]:
        """What a signed URL grants, now and later; raises Unauthorized where there is none."""
        environ = exchange.environ
        if self._urls is not None and NEEDED.get(exchange.operation) == READ:
            token = url_token(environ)
            if token is not None:
                return partial(self._urls.grant_of, token, exchange.name, environ["REQUEST_METHOD"])
        raise Unauthorized("This request needs a bearer token", REALM)

    def _check(self, exchange: Exchange, grant: Grant, scope: str | None) -> None:
        # The server itself is no stream: only a grant for every name reaches it.
        where = exchange.name if scope is not None else RESERVED
        scope = scope or ADMIN
        if not grant.allows(scope, where):
            raise _forbidden(scope)
        if exchange.source is not None and not grant.allows(READ, exchange.source):
            raise _forbidden(READ, " on the stream that it forks")


def bearer_token(environ: Mapping[str, Any]) -> str | None:
    """The token of the header Authorization (RFC 6750, 2.1); None where there is none of that scheme."""
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _forbidden(scope: str, where: str = "") -> Forbidden:
    challenge = f'{REALM}, error="insufficient_scope", scope="{scope}"'
    return Forbidden(f"This request needs the scope {scope}{where}", [("WWW-Authenticate", challenge)])
