"""``GET /metrics`` for Prometheus and everything that reads its formats."""

from __future__ import annotations

from flask import Blueprint, request
from flask import Response as FlaskResponse

from durable_streams.metrics.processes import Exposition


def build_metrics_blueprint(exposition: Exposition) -> Blueprint:
    """``GET /metrics`` in OpenMetrics or in the text format, as the client prefers."""
    blueprint = Blueprint("durable_streams_metrics", __name__)

    @blueprint.get("/metrics", endpoint="metrics")
    def metrics() -> FlaskResponse:
        text, content_type = exposition.render(request.headers.get("Accept", ""))
        return FlaskResponse(text, 200, {"Content-Type": content_type, "Cache-Control": "no-store"})

    return blueprint
