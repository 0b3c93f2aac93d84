"""The record of each request that Flask itself answers: the probes, and paths at which nothing is served."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Final

from flask import Flask, Response, g, request

from durable_streams.protocol.errors import ProtocolError
from durable_streams.telemetry import RequestLog

OPERATIONS: Final = {"/healthz": "health", "/readyz": "readiness"}


def record_requests(app: Flask, log: RequestLog) -> None:
    """Write one record a request of ``app``, at the level that fits its status."""

    def begin() -> None:
        g.started_ns = perf_counter_ns()

    def end(response: Response) -> Response:
        if log.wants(response.status_code):
            log.record(
                request.environ,
                operation=OPERATIONS.get(request.path, "request"),
                stream_id=None,
                live_mode=None,
                status=response.status_code,
                duration_ns=perf_counter_ns() - g.started_ns,
                problem=g.get("refusal"),
            )
        return response

    app.before_request(begin)
    app.after_request(end)


def note_refusal(error: ProtocolError) -> None:
    """The record of the current request will say why it was refused."""
    g.refusal = error
