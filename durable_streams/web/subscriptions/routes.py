"""The routes below ``{base}/__ds``: parse, ask the subscriptions, render. No rule of the protocol lives here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durable_streams.config import Config
from durable_streams.protocol.errors import MethodNotAllowed, RouteNotFound
from durable_streams.protocol.subscriptions.config import parse_config, parse_streams
from durable_streams.protocol.subscriptions.errors import ClaimsClosed, InvalidRequest
from durable_streams.protocol.subscriptions.ids import PathRules, check_id, check_worker
from durable_streams.protocol.subscriptions.state import Subscription
from durable_streams.subscriptions.rendering import encode
from durable_streams.subscriptions.service import SubscriptionService
from durable_streams.web.bodies import BodyReader
from durable_streams.web.exchange import Exchange, Handler
from durable_streams.web.response import Environ, Response
from durable_streams.web.subscriptions.envelope import error_response, json_response
from durable_streams.web.subscriptions.parsing import (
    decode_segment,
    parse_ack,
    parse_page,
    parse_release,
    read_object,
)

BODY_BYTES_MAX: Final = 1024 * 1024
JWKS_TYPE: Final = "application/jwk-set+json"
JWKS_CACHING: Final = "public, max-age=300"

Action = Callable[[Environ, str, str], Response]
"""Gets the id of the subscription and the rest of the path."""
Methods = dict[str, tuple[str, Action]]
"""Method -> the operation, as logs and metrics have it, and what carries it out."""


class SubscriptionRoutes:
    """Sections 6 and 7, and the extensions of docs/subscriptions.md."""

    def __init__(self, service: SubscriptionService, config: Config, base_path: str, *, gated: bool) -> None:
        """``gated``: something controls who may do what."""
        limits = config.limits
        self._control = service.control
        self._service = service
        self._base_path = base_path
        self._claims_are_open = gated or service.settings.allow_open_claims
        self._bodies = BodyReader(BODY_BYTES_MAX, config.server.body_timeout_secs)
        self._paths = PathRules(limits.max_stream_name_bytes, limits.max_stream_name_segments)
        self._top: dict[str, Methods] = {
            "subscriptions": {"GET": ("list-subscriptions", self._list)},
            "jwks.json": {"GET": ("jwks", self._jwks)},
            "keys": {"POST": ("rotate-key", self._rotate_key)},
        }
        self._one: Methods = {
            "GET": ("get-subscription", self._get),
            "PUT": ("put-subscription", self._put),
            "DELETE": ("delete-subscription", self._delete),
        }
        self._below: dict[str, Methods] = {
            "streams": {"POST": ("add-streams", self._add_streams)},
            "callback": {"POST": ("callback", self._callback)},
            "claim": {"POST": ("claim", self._claim)},
            "ack": {"POST": ("ack", self._ack)},
            "release": {"POST": ("release", self._release)},
        }
        self._link: Methods = {"DELETE": ("remove-stream", self._remove_stream)}

    def route(self, exchange: Exchange, raw_name: str) -> Handler:
        """Raises RouteNotFound, MethodNotAllowed, or InvalidRequest for a path that is no UTF-8."""
        exchange.error_response = error_response
        methods, subscription_id, rest = self._find(decode_segment(raw_name))
        method = exchange.environ["REQUEST_METHOD"]
        found = methods.get("GET" if method == "HEAD" else method)
        if found is None:
            raise MethodNotAllowed(method, _allowed(methods))
        exchange.operation, action = found
        exchange.exempt = exchange.operation in _EXEMPT

        def handle(exchange: Exchange) -> Response:
            response = action(
                exchange.environ, check_id(subscription_id) if rest is not None else "", rest or ""
            )
            return _without_body(response) if method == "HEAD" else response

        return handle

    def _find(self, path: str) -> tuple[Methods, str, str | None]:
        """The methods of a route, and the id and what follows it where the route has an id."""
        _, _, below = path.partition("/")
        if below in self._top:
            return self._top[below], "", None
        folder, _, rest = below.partition("/")
        if folder != "subscriptions" or not rest:
            raise RouteNotFound()
        subscription_id, slash, action = rest.partition("/")
        if not slash:
            return self._one, subscription_id, ""
        if action in self._below:
            return self._below[action], subscription_id, ""
        kind, _, stream = action.partition("/")
        if kind == "streams" and stream:
            return self._link, subscription_id, stream
        raise RouteNotFound()

    # -- sections 6.2 to 6.5 -----------------------------------------------------------------------------------

    def _put(self, environ: Environ, subscription_id: str, rest: str) -> Response:
        wanted = parse_config(read_object(environ, self._bodies), self._paths)
        is_new = self._control.put(subscription_id, wanted, stream_root(environ, self._base_path))
        body = encode(self._control.get(subscription_id, self._root))
        return json_response(201 if is_new else 200, body)

    def _get(self, environ: Environ, subscription_id: str, rest: str) -> Response:
        return json_response(200, encode(self._control.get(subscription_id, self._root)))

    def _list(self, environ: Environ, subscription_id: str, rest: str) -> Response:
        after, limit = parse_page(environ)
        return json_response(200, encode(self._control.list(after, limit, self._root)))

    def _delete(self, environ: Environ, subscription_id: str, rest: str) -> Response:
        self._control.delete(subscription_id)
        return Response(204)

    def _add_streams(self, environ: Environ, subscription_id: str, rest: str) -> Response:
        streams = parse_streams(read_object(environ, self._bodies), self._paths)
        if not streams:
            raise InvalidRequest("streams must be an array of at least one stream path")
        self._control.add_streams(subscription_id, streams)
        return Response(204)

    def _remove_stream(self, environ: Environ, subscription_id: str, rest: str) -> Response:
        self._control.remove_stream(subscription_id, self._paths.check(rest, "the stream path"))
        return Response(204)

    def _jwks(self, environ: Environ, subscription_id: str, rest: str) -> Response:
        body = encode(self._control.jwks())
        return json_response(200, body, media_type=JWKS_TYPE, cache_control=JWKS_CACHING)

    def _rotate_key(self, environ: Environ, subscription_id: str, rest: str) -> Response:
        key, is_new = self._control.rotate_key()
        return json_response(201 if is_new else 200, encode(key))

    # -- section 7 ---------------------------------------------------------------------------------------------

    def _claim(self, environ: Environ, subscription_id: str, rest: str) -> Response:
        if not self._claims_are_open:
            raise ClaimsClosed()
        worker = check_worker(read_object(environ, self._bodies).get("worker"))
        return json_response(200, encode(self._control.claim(subscription_id, worker)))

    def _callback(self, environ: Environ, subscription_id: str, rest: str) -> Response:
        return self._answer_ack(environ, subscription_id, callback=True)

    def _ack(self, environ: Environ, subscription_id: str, rest: str) -> Response:
        return self._answer_ack(environ, subscription_id, callback=False)

    def _answer_ack(self, environ: Environ, subscription_id: str, *, callback: bool) -> Response:
        grant = self._control.check_token(subscription_id, environ.get("HTTP_AUTHORIZATION"))
        document = read_object(environ, self._bodies)
        request = parse_ack(document, grant, self._paths, callback=callback)
        return json_response(200, encode(self._control.ack(subscription_id, request)))

    def _release(self, environ: Environ, subscription_id: str, rest: str) -> Response:
        grant = self._control.check_token(subscription_id, environ.get("HTTP_AUTHORIZATION"))
        self._control.release(subscription_id, parse_release(read_object(environ, self._bodies), grant))
        return Response(204)

    def _root(self, sub: Subscription) -> str:
        return self._service.root(sub)


_EXEMPT: Final = frozenset({"jwks", "callback", "ack", "release"})
"""Public, or with a token of a wake, which is checked here."""


def stream_root(environ: Environ, base_path: str) -> str:
    """The URL of the stream root by the address that the server listens on, and not by what a client says it is.

    A Unix-domain socket has none: behind it there is a proxy, which says under which host it was asked.
    """
    scheme: str = environ["wsgi.url_scheme"]
    host: str = environ["SERVER_NAME"]
    port: str = environ["SERVER_PORT"]
    if not port.isdigit() or port == "0":
        authority: str = environ.get("HTTP_HOST") or "localhost"
    else:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        authority = f"[{host}]" if ":" in host else host
        if port != {"http": "80", "https": "443"}[scheme]:
            authority += f":{port}"
    return f"{scheme}://{authority}{environ.get('SCRIPT_NAME', '')}{base_path}"


def _allowed(methods: Methods) -> str:
    names = [*methods, "HEAD"] if "GET" in methods else [*methods]
    return ", ".join([*names, "OPTIONS"])


def _without_body(response: Response) -> Response:
    return Response(response.status, response.headers, iter(()))
