"""The stream endpoint inside anybody's Flask app, and the wrapper that lets our own app reach it without Flask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from flask import Blueprint, Flask, Response, request
from flask.blueprints import BlueprintSetupState
from gevent.event import Event
from werkzeug.routing import BaseConverter

from durable_streams.config import Config
from durable_streams.service import StreamService
from durable_streams.storage.contract import Storage
from durable_streams.streams.batch import Limits
from durable_streams.web.endpoint import StreamEndpoint
from durable_streams.web.response import Environ

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

EXTENSION = "durable_streams"
"""``app.extensions[EXTENSION]`` is the StreamService."""
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"]
"""The endpoint itself answers those that it does not serve, so that they too get a problem+json."""


class Flag(Protocol):
    """What ``ready`` has to offer; every Event does."""

    def set(self) -> None: ...

    def clear(self) -> None: ...


def build_service(storage: Storage, config: Config) -> StreamService:
    limits = config.limits
    service = StreamService(
        storage, Limits(limits.max_stream_bytes, limits.max_memory_bytes, limits.max_pending_writes)
    )
    service.body_timeout_s = config.server.body_timeout_secs
    return service


def build_blueprint(
    storage: Storage,
    config: Config | None = None,
    *,
    ready: Flag | None = None,
    shutdown: Event | None = None,
) -> Blueprint:
    """A blueprint that serves the protocol below the ``url_prefix`` it is registered with.

    The storage is opened with the first request, or by ``app.extensions["durable_streams"].open()``, and has to be
    closed with ``.close()``. ``ready`` is set while requests can be answered. When the gevent event ``shutdown`` is
    set, long-polls and event streams end. The server must run greenlets of one thread: gunicorn's gevent workers, or
    gevent's own server.
    """
    config = config or Config()
    service = build_service(storage, config)
    if ready is not None:
        service.on_ready.append(lambda is_ready: ready.set() if is_ready else ready.clear())
    if shutdown is not None:
        shutdown.rawlink(lambda event: service.stop_live())
    blueprint = Blueprint(EXTENSION, __name__)
    blueprint.record_once(lambda state: _mount(state, service, config))
    return blueprint


def _mount(state: BlueprintSetupState, service: StreamService, config: Config) -> None:
    base_path = (state.url_prefix or "").rstrip("/")
    endpoint = StreamEndpoint(service, config, base_path, owns_connection=False)
    state.app.extensions[EXTENSION] = service
    state.app.url_map.converters["stream_path"] = _StreamPath

    def streams(raw_name: str = "") -> Response:
        environ = request.environ
        # Flask has decoded the name leniently; the endpoint wants what was sent.
        return _respond(endpoint, environ, environ["PATH_INFO"][len(base_path) + 1 :])

    for rule in ("", "/<stream_path:raw_name>"):
        state.app.add_url_rule(
            base_path + rule or "/",
            f"{EXTENSION}.streams",
            streams,
            methods=METHODS,
            provide_automatic_options=False,
            merge_slashes=False,
            strict_slashes=False,
        )


class _StreamPath(BaseConverter):
    """All that follows, whatever it is: names are judged by the protocol."""

    regex = r"[\s\S]*"
    part_isolating = False


def _respond(endpoint: StreamEndpoint, environ: Environ, raw_name: str) -> Response:
    """The endpoint's answer as a Flask response; a body in pieces stays in pieces."""
    started: list[Any] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[..., Any]:
        started[:] = [status, headers]
        return lambda data: None

    body = endpoint.serve(environ, start_response, raw_name)
    status, headers = started
    response = Response(body, status, direct_passthrough=True)
    response.headers.clear()
    response.headers.extend(headers)
    return response


class StreamDispatcher:
    """A WSGI front: stream paths go straight to the endpoint, everything else to ``otherwise`` (Flask).

    Flask's dispatch costs more than the whole request otherwise does; see docs/architecture.md.
    """

    def __init__(self, endpoint: StreamEndpoint, otherwise: WSGIApplication) -> None:
        self._endpoint = endpoint
        self._otherwise = otherwise
        self._base = endpoint.base_path
        self._prefix = endpoint.base_path + "/"
        self._skip = len(self._prefix)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if not path.startswith(self._prefix) and path != self._base:
            return self._otherwise(environ, start_response)
        if not self._base and path in ("/healthz", "/readyz"):
            return self._otherwise(environ, start_response)
        return self._endpoint.serve(environ, start_response, path[self._skip :])


def mount(app: Flask, service: StreamService, config: Config) -> None:
    """Serve the streams at ``http.stream_base_path`` of ``app``, ahead of its routes."""
    endpoint = StreamEndpoint(service, config, config.http.stream_base_path.rstrip("/"), owns_connection=True)
    app.extensions[EXTENSION] = service
    app.wsgi_app = StreamDispatcher(endpoint, app.wsgi_app)  # type: ignore[method-assign]
