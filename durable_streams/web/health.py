"""Probes for the operator of the server: alive, and ready for requests."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint
from flask import Response as FlaskResponse


def build_health_blueprint(is_ready: Callable[[], bool]) -> Blueprint:
    """``GET /healthz`` and ``GET /readyz``; the latter is 503 while ``is_ready`` says no."""
    health = Blueprint("durable_streams_health", __name__)

    @health.get("/healthz", endpoint="health")
    def healthz() -> FlaskResponse:
        return _plain("ok", 200)

    @health.get("/readyz", endpoint="readiness")
    def readyz() -> FlaskResponse:
        return _plain("ready", 200) if is_ready() else _plain("not ready", 503)

    return health


def _plain(text: str, status: int) -> FlaskResponse:
    return FlaskResponse(text, status, {"Cache-Control": "no-store"}, mimetype="text/plain")
