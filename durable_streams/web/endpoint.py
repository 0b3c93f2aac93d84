"""Everything below the base path as one WSGI callable: route, pass the gates, handle, observe, send."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from durable_streams.protocol.errors import ProtocolError, RouteNotFound, Unavailable
from durable_streams.protocol.names import RESERVED, is_reserved
from durable_streams.service import StreamService
from durable_streams.traffic import RATE_HEADERS
from durable_streams.web.cors import CorsHeaders
from durable_streams.web.exchange import Exchange, Handler, Hooks, Routes
from durable_streams.web.parsing import readable
from durable_streams.web.problems import as_protocol_error, request_path
from durable_streams.web.response import Environ, Response
from durable_streams.web.stream_routes import StreamRoutes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

PREFLIGHT: Final = "preflight"

log = logging.getLogger("durable_streams.web")


class NoControlRoutes:
    """Nothing is served below ``{base}/__ds``."""

    def route(self, exchange: Exchange, raw_name: str) -> Handler:
        raise RouteNotFound()


class StreamEndpoint:
    """Serves every request below the base path: streams, and the control APIs of section 6."""

    def __init__(
        self,
        service: StreamService,
        streams: StreamRoutes,
        cors: CorsHeaders,
        hooks: Hooks,
        control: Routes | None = None,
    ) -> None:
        """``control`` takes the requests for ``__ds`` and for everything below it; without it they are 404."""
        self._service = service
        self._store = service.store
        self._streams = streams
        self._control = control or NoControlRoutes()
        self._cors = cors
        self._headers = cors.of_all
        self._refuse_foreign_write = cors.refuse_foreign_write
        self._gates = hooks.gates
        self._hooks = hooks if hooks.observers else None

    def serve(self, environ: Environ, start_response: StartResponse, raw_name: str) -> Iterable[bytes]:
        """WSGI for the path ``raw_name`` below the base, decoded but still in Latin-1 (PEP 3333)."""
        exchange = Exchange(environ, raw_name if raw_name.isascii() else readable(raw_name))
        error: ProtocolError | None = None
        try:
            response = self._respond(exchange, raw_name)
        except ProtocolError as exc:
            error = exc
            response = exchange.error_response(error, environ)
        except Exception as exc:
            error = _unexpected(exc, environ)
            response = exchange.error_response(error, environ)
        if self._hooks is not None:
            if exchange.live is not None and isinstance(response.body, bytes):
                # Of a long-poll, whose one record is that of its end.
                exchange.sent_bytes = len(response.body)
            self._hooks.finished(exchange, response.status, error)
            if exchange.live is not None and error is None:
                self._hooks.follow(exchange, response)
        headers = self._headers or self._cors.of(environ)
        if self._gates and RATE_HEADERS in environ:
            headers = [*headers, *environ[RATE_HEADERS]]
        return response.send(start_response, headers)

    def _respond(self, exchange: Exchange, raw_name: str) -> Response:
        environ = exchange.environ
        if environ["REQUEST_METHOD"] == "OPTIONS":
            exchange.operation = PREFLIGHT
            return self._cors.preflight(environ, self._streams.allowed_methods)
        if "HTTP_ORIGIN" in environ:
            self._refuse_foreign_write(environ)
        # Before the names are checked: control paths have their own rules.
        if raw_name.startswith(RESERVED) and is_reserved(raw_name):
            handler = self._control.route(exchange, raw_name)
        else:
            handler = self._streams.route(exchange, raw_name)
        for gate in self._gates:
            gate(exchange)
        if not self._store.is_open:
            self._open()
        return handler(exchange)

    def _open(self) -> None:
        self._service.open()
        if not self._store.is_open:
            raise Unavailable("the storage is closed")


def _unexpected(exc: Exception, environ: Environ) -> ProtocolError:
    error = as_protocol_error(exc, environ["REQUEST_METHOD"])
    if error.status >= 500:
        log.error("request failed: %s %s", environ["REQUEST_METHOD"], request_path(environ), exc_info=exc)
    return error
