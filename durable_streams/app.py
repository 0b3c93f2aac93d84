"""The composition root: Config -> storage -> store and live -> Flask app."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from flask import Flask, request
from flask import Response as FlaskResponse

from durable_streams.config import Config
from durable_streams.service import StreamService
from durable_streams.storage.contract import Storage
from durable_streams.storage.modes import mode_of
from durable_streams.web.blueprint import build_hooks, build_service, mount
from durable_streams.web.cors import CorsHeaders
from durable_streams.web.exchange import Gate, Observer
from durable_streams.web.flask_requests import hook_requests, note_error
from durable_streams.web.front_page import build_front_page_blueprint
from durable_streams.web.health import build_health_blueprint
from durable_streams.web.problems import as_protocol_error, problem_response

REBUILD = "durable_streams.rebuild"
"""``app.extensions[REBUILD](config)``: the same application on the same open storage, for another configuration."""

log = logging.getLogger("durable_streams.web")


def create_app(
    config: Config | None = None,
    storage: Storage | None = None,
    *,
    gates: Sequence[Gate] = (),
    observers: Sequence[Observer] = (),
) -> Flask:
    """The whole server as a Flask app; ``storage`` replaces the one that ``config`` names.

    ``gates`` may refuse a request, ``observers`` learn of each: those of streams, and those of Flask's own routes.
    The storage is opened by the first request, or by ``app.extensions["durable_streams"].open()``.
    """
    config = config or Config()
    service = build_service(storage or build_storage(config), config)

    def build(config: Config) -> Flask:
        app = _build_app(config, service, gates, observers)
        app.extensions[REBUILD] = build
        return app

    return build(config)


def build_storage(config: Config) -> Storage:
    """The storage that ``storage.mode`` names, not opened yet; raises MissingExtra."""
    return mode_of(config.storage).build(config)


def _build_app(
    config: Config, service: StreamService, gates: Sequence[Gate], observers: Sequence[Observer]
) -> Flask:
    app = Flask("durable_streams", static_folder=None)
    app.url_map.merge_slashes = False
    app.register_blueprint(build_health_blueprint(lambda: service.is_ready))
    if "/" not in config.http.stream_base_path:
        # Otherwise that path is the streams' own.
        app.register_blueprint(build_front_page_blueprint(config))
    _respond_with_problems(app, CorsHeaders(config.http))
    hooks = build_hooks(config, gates, observers)
    hook_requests(app, hooks)
    mount(app, service, config, hooks)
    return app


def _respond_with_problems(app: Flask, cors: CorsHeaders) -> None:
    """Errors of Flask itself take the form that those of the protocol have."""

    def respond(exc: Exception) -> FlaskResponse:
        error = as_protocol_error(exc, request.method)
        if error.status >= 500:
            log.error("request failed: %s %s", request.method, request.path, exc_info=exc)
        note_error(error)
        response = problem_response(error, request.environ)
        return FlaskResponse(response.body, response.status, response.headers)

    def add_headers(response: FlaskResponse) -> FlaskResponse:
        response.headers.extend(cors.of(request.environ))
        return response

    app.register_error_handler(Exception, respond)
    app.after_request(add_headers)
