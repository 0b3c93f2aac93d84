"""Requests that Flask itself answers pass the same gates and observers: the probes, and paths without a route."""

from __future__ import annotations

from flask import Flask, g, request
from flask import Response as FlaskResponse

from durable_streams.protocol.errors import ProtocolError
from durable_streams.web.exchange import UNROUTED, Exchange, Hooks


def hook_requests(app: Flask, hooks: Hooks) -> None:
    """Make an exchange of each request of ``app``; its operation is the name of the view in its blueprint."""

    def begin() -> None:
        endpoint = request.endpoint if request.blueprint else None
        g.exchange = Exchange(request.environ, operation=(endpoint or UNROUTED).rpartition(".")[2])
        for gate in hooks.gates:
            gate(g.exchange)

    def end(response: FlaskResponse) -> FlaskResponse:
        hooks.finished(g.exchange, response.status_code, g.get("error"))
        return response

    app.before_request(begin)
    app.after_request(end)


def note_error(error: ProtocolError) -> None:
    """The observers of the current request will learn of ``error``."""
    g.error = error
