"""The composition root: Config -> storage -> store and live -> Flask app."""

from __future__ import annotations

import logging

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from durable_streams.config import Config
from durable_streams.protocol.errors import InternalError, MethodNotAllowed, ProtocolError, RouteNotFound
from durable_streams.storage.contract import Storage
from durable_streams.storage.modes import mode_of
from durable_streams.telemetry import RequestLog
from durable_streams.web.blueprint import build_service, mount
from durable_streams.web.cors import CorsHeaders
from durable_streams.web.flask_requests import note_refusal, record_requests
from durable_streams.web.health import build_health_blueprint
from durable_streams.web.problems import problem_response

log = logging.getLogger("durable_streams.web")


def create_app(config: Config | None = None, storage: Storage | None = None) -> Flask:
    """The whole server as a Flask app; ``storage`` replaces the one that ``config`` names.

    The storage is opened by the first request, or by ``app.extensions["durable_streams"].open()``.
    """
    config = config or Config()
    service = build_service(storage or build_storage(config), config)
    app = Flask("durable_streams", static_folder=None)
    app.url_map.merge_slashes = False
    app.register_blueprint(build_health_blueprint(lambda: service.is_ready))
    _answer_with_problems(app, CorsHeaders(config.http.cors_origins))
    record_requests(app, RequestLog(config.log, config.storage.mode))
    mount(app, service, config)
    return app


def build_storage(config: Config) -> Storage:
    """The storage that ``storage.mode`` names, not opened yet; raises MissingExtra."""
    return mode_of(config.storage).build(config.storage)


def _answer_with_problems(app: Flask, browsers: CorsHeaders) -> None:
    """What Flask itself refuses is refused in the protocol's way."""

    def refuse(exc: Exception) -> Response:
        from flask import request

        error = _as_protocol_error(exc, request.method)
        if error.status >= 500:
            log.error("request failed: %s %s", request.method, request.path, exc_info=exc)
        note_refusal(error)
        answer = problem_response(error, request.environ)
        return Response(answer.body, answer.status, answer.headers)

    def for_browsers(response: Response) -> Response:
        from flask import request

        response.headers.extend(browsers.of(request.environ))
        return response

    app.register_error_handler(Exception, refuse)
    app.after_request(for_browsers)


def _as_protocol_error(exc: Exception, method: str) -> ProtocolError:
    if not isinstance(exc, HTTPException):
        return InternalError(repr(exc))
    if exc.code == 405:
        return MethodNotAllowed(method, ", ".join(sorted(getattr(exc, "valid_methods", None) or ())))
    if exc.code == 404:
        return RouteNotFound()
    error = ProtocolError(exc.description or exc.name)
    error.status, error.title = exc.code or 500, exc.name
    error.type = "/errors/" + exc.name.lower().replace(" ", "-")
    error.code = exc.name.upper().replace(" ", "_")
    return error
