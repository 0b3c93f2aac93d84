"""The stream endpoint inside any Flask app, and the WSGI front that lets our own app reach it without Flask."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from flask import Blueprint, Flask, abort, request
from flask import Response as FlaskResponse
from flask.blueprints import BlueprintSetupState
from gevent.event import Event
from werkzeug.routing import Rule

from durable_streams.access.building import access_gates
from durable_streams.access.client_certificates import name_client
from durable_streams.config import Config
from durable_streams.embedding import Streams
from durable_streams.eventloop.server_check import ServerCheck
from durable_streams.protocol.requests import Inherited
from durable_streams.service import StreamService
from durable_streams.storage.abilities import Shared
from durable_streams.storage.contract import Storage
from durable_streams.telemetry import RequestLog
from durable_streams.traffic.building import traffic_gates
from durable_streams.traffic.store_limits import store_limits
from durable_streams.web.cors import CorsHeaders
from durable_streams.web.endpoint import StreamEndpoint
from durable_streams.web.exchange import Gate, Hooks, Observer, Routes
from durable_streams.web.flask_requests import add_stream_paths
from durable_streams.web.parsing import encodes_base
from durable_streams.web.response import Environ
from durable_streams.web.stream_routes import StreamRoutes
from durable_streams.web.subscriptions.routes import SubscriptionRoutes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

EXTENSION = "durable_streams"
"""``app.extensions[EXTENSION]`` is the StreamService."""
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"]
"""All methods that Flask can route: the endpoint refuses the unknown ones with a problem+json."""


class Flag(Protocol):
    """The type of ``ready``, such as an Event."""

    def set(self) -> None: ...

    def clear(self) -> None: ...


class StreamsBlueprint(Blueprint):
    """``streams``: the streams that it serves, for Python code."""

    def __init__(self, streams: Streams) -> None:
        super().__init__(EXTENSION, __name__)
        self.streams = streams


def build_service(storage: Storage, config: Config) -> StreamService:
    defaults = Inherited(message_offsets=config.http.message_offsets)
    return StreamService(storage, store_limits(config), config.subscriptions, defaults)


def all_gates(config: Config, gates: Sequence[Gate] = ()) -> Hooks:
    """The given gates, behind those of access control and among those of rates; raises what a wrong setting raises."""
    guards: tuple[Gate, ...] = (*access_gates(config.auth), *gates)
    if config.tls.client_ca_path is not None:
        guards = (name_client, *guards)
    traffic = traffic_gates(config)
    return Hooks((*traffic.first, *guards, *traffic.last), is_guarded=bool(guards))


def with_log(config: Config, hooks: Hooks) -> Hooks:
    """``hooks`` and the request log, unless its filter rejects everything."""
    request_log = RequestLog(config.log, config.storage.mode)
    return replace(hooks, observers=(request_log, *hooks.observers)) if request_log.wants_any else hooks


def build_control(service: StreamService, config: Config, base_path: str, hooks: Hooks) -> Routes | None:
    """What is served below ``{base}/__ds``: subscriptions, unless they are switched off."""
    if service.subscriptions is None:
        return None
    return SubscriptionRoutes(service.subscriptions, config, base_path, gated=hooks.is_guarded)


def build_blueprint(
    storage: Storage,
    config: Config | None = None,
    *,
    gates: Sequence[Gate] = (),
    observers: Sequence[Observer] = (),
    read_only: bool = False,
    ready: Flag | None = None,
    shutdown: Event | None = None,
) -> StreamsBlueprint:
    """A blueprint that serves the protocol below the ``url_prefix`` it is registered with; see docs/embedding.md.

    ``gates`` may refuse a request and ``observers`` learn of each: see ``durable_streams.web.exchange``. With
    ``read_only``, PUT, POST and DELETE are answered 405.

    The storage is opened with the first request, or by ``streams.open()``, and closed with the process, or by
    ``streams.stop()``. ``ready`` is set while requests can be answered. When the gevent event ``shutdown`` is set,
    long-polls and event streams end. The server must run greenlets of one thread: gunicorn's gevent workers, or
    gevent's own server.
    """
    config = config or Config()
    service = build_service(storage, config)
    hooks = with_log(config, replace(all_gates(config, gates), observers=tuple(observers)))
    if ready is not None:
        service.on_ready.append(lambda is_ready: ready.set() if is_ready else ready.clear())
    if shutdown is not None:
        shutdown.rawlink(lambda event: service.stop_live())

    def register(state: BlueprintSetupState) -> None:
        base_path = (state.url_prefix or "").rstrip("/")
        routes = StreamRoutes(
            service, config, [base_path], owns_connection=False, gated=hooks.is_guarded, read_only=read_only
        )
        control = None if read_only else build_control(service, config, base_path, hooks)
        endpoint = StreamEndpoint(service, routes, CorsHeaders(config.http), hooks, control)
        # A second blueprint of one app is kept beside the first: a server opens both at its start.
        extensions = state.app.extensions
        extensions[state.name if EXTENSION in extensions else EXTENSION] = service
        is_shared = isinstance(storage, Shared)
        _add_rules(state, endpoint, base_path, ServerCheck(is_shared))

    service.on_ready.append(lambda is_ready: _close_at_exit(service) if is_ready else None)
    blueprint = StreamsBlueprint(Streams(service, config.limits))
    blueprint.record_once(register)
    return blueprint


def _add_rules(
    state: BlueprintSetupState, endpoint: StreamEndpoint, base_path: str, check_server: ServerCheck
) -> None:
    add_stream_paths(state.app)

    def streams(raw_name: str = "") -> FlaskResponse:
        environ = request.environ
        if encodes_base(environ, base_path):
            abort(404)
        check_server(environ)
        # Flask has decoded the name leniently; the endpoint needs the bytes that were sent.
        return _respond(endpoint, environ, environ["PATH_INFO"][len(base_path) + 1 :])

    for rule in ("", "/<stream_path:raw_name>"):
        state.app.add_url_rule(
            base_path + rule or "/",
            f"{state.name}.streams",
            streams,
            methods=METHODS,
            provide_automatic_options=False,
            merge_slashes=False,
            strict_slashes=False,
        )


def _close_at_exit(service: StreamService) -> None:
    """Close the storage before the process ends, also under a server without hooks for it."""
    process, found = os.getpid(), ref(service)

    def close() -> None:
        service = found()
        # A forked child inherits this hook and must not touch the files.
        if service is not None and os.getpid() == process:
            service.close()

    atexit.register(close)


def _respond(endpoint: StreamEndpoint, environ: Environ, raw_name: str) -> FlaskResponse:
    """The endpoint's response as one of Flask; a body in pieces stays in pieces."""
    started: list[Any] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[..., Any]:
        started[:] = [status, headers]
        return lambda data: None

    body = endpoint.serve(environ, start_response, raw_name)
    status, headers = started
    response = FlaskResponse(body, status, direct_passthrough=True)
    response.headers.clear()
    response.headers.extend(headers)
    return response


class StreamDispatcher:
    """A WSGI front: stream paths go straight to the endpoint, everything else to ``otherwise`` (Flask).

    Flask's dispatch costs more than the rest of the request; see docs/architecture.md.
    """

    def __init__(
        self, endpoint: StreamEndpoint, base_path: str, otherwise: WSGIApplication, theirs: Sequence[str] = ()
    ) -> None:
        """``theirs``: paths below the base that belong to ``otherwise``; one that ends in a slash, with all below."""
        self._serve = endpoint.serve
        self._otherwise = otherwise
        self._base = base_path
        self._prefix = base_path + "/"
        self._skip = len(self._prefix)
        self._their_paths = frozenset(theirs)
        self._their_folders = tuple(path for path in theirs if path.endswith("/") and path != "/")

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if not path.startswith(self._prefix) and path != self._base:
            return self._otherwise(environ, start_response)
        # Most targets have no escape, so they need no closer look.
        if "%2" in environ.get("RAW_URI", "%2") and encodes_base(environ, self._base):
            return self._otherwise(environ, start_response)
        if self._their_paths and (path in self._their_paths or path.startswith(self._their_folders)):
            return self._otherwise(environ, start_response)
        return self._serve(environ, start_response, path[self._skip :])


def mount(app: Flask, service: StreamService, config: Config, hooks: Hooks) -> None:
    """Serve the streams at ``http.stream_base_path`` of ``app``; the routes that ``app`` has already stay in force."""
    # The longest first, since one may be below another.
    base_paths = sorted((path.rstrip("/") for path in config.http.stream_base_path), key=len, reverse=True)
    routes = StreamRoutes(service, config, base_paths, owns_connection=True, gated=hooks.is_guarded)
    control = build_control(service, config, config.http.stream_base_path[0].rstrip("/"), hooks)
    endpoint = StreamEndpoint(service, routes, CorsHeaders(config.http), hooks, control)
    app.extensions[EXTENSION] = service
    fixed_parts = [_fixed_part(rule) for rule in app.url_map.iter_rules()]
    for base_path in reversed(base_paths):
        theirs = [path for path in fixed_parts if path.startswith(base_path + "/")]
        app.wsgi_app = StreamDispatcher(endpoint, base_path, app.wsgi_app, theirs)  # type: ignore[method-assign]


def _fixed_part(rule: Rule) -> str:
    """``/admin/<name>`` -> ``/admin/``: the path up to the first variable part."""
    return rule.rule.partition("<")[0]
