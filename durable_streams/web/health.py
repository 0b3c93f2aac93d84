"""Probes for whoever runs the server: alive, and ready for requests."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response


def build_health_blueprint(is_ready: Callable[[], bool]) -> Blueprint:
    """``GET /healthz`` and ``GET /readyz``; the latter is 503 while ``is_ready`` says no."""
    health = Blueprint("durable_streams_health", __name__)

    @health.get("/healthz")
    def healthz() -> Response:
        return _plain("ok", 200)

    @health.get("/readyz")
    def readyz() -> Response:
        return _plain("ready", 200) if is_ready() else _plain("not ready", 503)

    return health


def _plain(text: str, status: int) -> Response:
    return Response(text, status, {"Cache-Control": "no-store"}, mimetype="text/plain")
