"""The composition root: Config -> storage -> store and live -> Flask app."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flask import Blueprint, Flask, request
from flask import Response as FlaskResponse

from durable_streams import __version__
from durable_streams.admin.activity import Activity
from durable_streams.config import Config
from durable_streams.extras import require_extra
from durable_streams.metrics.counting import CommitCounts
from durable_streams.otel.building import begin_metrics, begin_tracing
from durable_streams.service import StreamService
from durable_streams.storage.contract import Storage
from durable_streams.storage.modes import mode_of
from durable_streams.telemetry.request_ids import RequestIds
from durable_streams.web.admin.routes import build_admin_blueprint
from durable_streams.web.blueprint import all_gates, build_service, mount, with_log
from durable_streams.web.cors import CorsHeaders
from durable_streams.web.exchange import Gate, Hooks, Observer
from durable_streams.web.flask_requests import add_stream_paths, hook_requests, note_error
from durable_streams.web.front_page import build_front_page_blueprint
from durable_streams.web.health import build_health_blueprint
from durable_streams.web.inspector.page import build_inspector_blueprint
from durable_streams.web.openapi.page import build_openapi_blueprint
from durable_streams.web.problems import as_protocol_error, problem_response
from durable_streams.web.proxies import ProxyHeaders

if TYPE_CHECKING:
    from durable_streams.metrics.collecting import Metrics

Page = Callable[[Config], Blueprint]
"""Makes a page for one configuration: after a reload it is another one."""
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
    hooks = all_gates(config, gates)
    pages: list[Page] = []
    commits: CommitCounts | None = None
    if config.metrics.enabled:
        metrics, metrics_page = _measure(service, config)
        observers = [*observers, metrics.requests]
        commits = metrics.commits
        pages.append(lambda config: metrics_page)
        if config.otel.enabled:
            begin_metrics(service, metrics, __version__)
    if config.admin.enabled:
        activity = _watch(service, config, commits)
        pages.append(
            lambda config: build_admin_blueprint(service, config, activity, gated=hooks.is_guarded),
        )
    if config.admin.inspector:
        pages.append(lambda config: build_inspector_blueprint(config, gated=hooks.is_guarded))

    if config.otel.enabled and (spans := begin_tracing(service, __version__)) is not None:
        # First, so that a refusal by another gate is in the trace.
        hooks = replace(hooks, gates=(spans, *hooks.gates))
        observers = [*observers, spans]

    def build(config: Config) -> Flask:
        given = replace(hooks, observers=tuple(observers))
        app = _build_app(config, service, given, [page(config) for page in pages])
        app.extensions[REBUILD] = build
        return app

    return build(config)


def build_storage(config: Config) -> Storage:
    """The storage that ``storage.mode`` names, not opened yet; raises MissingExtra."""
    return mode_of(config.storage).build(config)


def _watch(service: StreamService, config: Config, commits: CommitCounts | None) -> Activity:
    build = {"version": __version__, "mode": mode_of(config.storage).name}
    return Activity(service, commits, config.server.worker_connections, build)


def _measure(service: StreamService, config: Config) -> tuple[Metrics, Blueprint]:
    """All metrics, and the page of them; raises MissingExtra."""
    require_extra("metrics", "metrics.enabled = true")
    from durable_streams.metrics.collecting import Metrics
    from durable_streams.metrics.page import build_metrics_blueprint
    from durable_streams.metrics.processes import Exposition

    metrics = Metrics(service, __version__, mode_of(config.storage).name)
    return metrics, build_metrics_blueprint(Exposition(metrics))


def _build_app(config: Config, service: StreamService, given: Hooks, pages: Sequence[Blueprint]) -> Flask:
    app = Flask("durable_streams", static_folder=None)
    app.url_map.merge_slashes = False
    add_stream_paths(app)
    app.register_blueprint(build_health_blueprint(lambda: service.is_ready))
    if "/" not in config.http.stream_base_path:
        # Otherwise that path is the streams' own.
        app.register_blueprint(build_front_page_blueprint(config))
        app.register_blueprint(build_openapi_blueprint(config))
    for page in pages:
        app.register_blueprint(page)
    _respond_with_problems(app, CorsHeaders(config.http))
    hooks = with_log(config, given)
    hook_requests(app, hooks)
    mount(app, service, config, hooks)
    if config.http.request_ids:
        app.wsgi_app = RequestIds(app.wsgi_app)  # type: ignore[method-assign]
    if config.proxy.trusted or config.server.public_url:
        app.wsgi_app = ProxyHeaders(app.wsgi_app, config.proxy, config.server.public_url)  # type: ignore[method-assign]
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
        # What is for no page of another origin has said so itself.
        if "Cross-Origin-Resource-Policy" not in response.headers:
            response.headers.extend(cors.of(request.environ))
        return response

    app.register_error_handler(Exception, respond)
    app.after_request(add_headers)
