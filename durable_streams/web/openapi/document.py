"""The whole document for one configuration: only what that server serves is in it."""

from __future__ import annotations

from typing import Final

from durable_streams.config import Config
from durable_streams.web.openapi import operators, streams, subscriptions
from durable_streams.web.openapi.parts import TEXTUAL, Json, object_of

PROBLEM: Final = object_of(
    "type title status code detail instance",
    type={"type": "string", "format": "uri-reference"},
    title=TEXTUAL,
    status={"type": "integer", "minimum": 400, "maximum": 599},
    code={"type": "string", "description": "For programs; docs/http.md lists them."},
    detail=TEXTUAL,
    instance=TEXTUAL,
    request_id=TEXTUAL,
)


def build_document(config: Config, version: str) -> Json:
    """OpenAPI 3.1. Streams are described below the first of ``http.stream_base_path``."""
    base = config.http.stream_base_path[0].rstrip("/")
    paths = {**streams.page_paths(), **streams.document_path(), **streams.stream_paths(base)}
    schemas: Json = {"Problem": PROBLEM}
    if config.subscriptions.enabled:
        paths |= subscriptions.subscription_paths(base)
        schemas |= subscriptions.SCHEMAS
    if config.metrics.enabled:
        paths |= streams.metrics_path()
    if config.admin.enabled:
        paths |= operators.admin_paths()
        schemas |= operators.SCHEMAS
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "Durable Streams",
            "version": version,
            "summary": "Append-only streams over HTTP, with live reads",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if config.auth.mode != "none":
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        for path in ("/healthz", "/readyz", "/openapi.json"):
            paths[path]["get"]["security"] = []
    return document
