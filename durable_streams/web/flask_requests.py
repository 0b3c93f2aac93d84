"""Requests that Flask itself answers pass the same gates and observers: probes, pages, the admin API, unknown paths."""

from __future__ import annotations

from flask import Flask, g, request
from flask import Response as FlaskResponse
from flask.sansio.app import App
from werkzeug.routing import BaseConverter

from durable_streams.protocol.errors import ProtocolError
from durable_streams.traffic import RATE_HEADERS
from durable_streams.web.exchange import UNROUTED, Exchange, Hooks


class _StreamPath(BaseConverter):
    """The rest of the path, whatever it is: the protocol checks names."""

    regex = r"[\s\S]*"
    part_isolating = False


def add_stream_paths(app: App) -> None:
    """Let rules of ``app`` have ``<stream_path:...>`` as their last part."""
    app.url_map.converters["stream_path"] = _StreamPath


def hook_requests(app: Flask, hooks: Hooks) -> None:
    """Make an exchange of each request of ``app``; its operation is the name of the view in its blueprint."""

    def begin() -> None:
        endpoint = request.endpoint if request.blueprint else None
        g.exchange = Exchange(request.environ, operation=(endpoint or UNROUTED).rpartition(".")[2])
        for gate in hooks.gates:
            gate(g.exchange)

    def end(response: FlaskResponse) -> FlaskResponse:
        response.headers.extend(request.environ.get(RATE_HEADERS, ()))
        hooks.finished(g.exchange, response.status_code, g.get("error"))
        return response

    app.before_request(begin)
    app.after_request(end)


def note_error(error: ProtocolError) -> None:
    """The observers of the current request will learn of ``error``."""
    g.error = error
