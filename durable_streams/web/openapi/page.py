"""``GET /openapi.json``: what this server offers, for programs."""

from __future__ import annotations

import msgspec
from flask import Blueprint
from flask import Response as FlaskResponse

from durable_streams import __version__
from durable_streams.config import Config
from durable_streams.web.openapi.document import build_document


def build_openapi_blueprint(config: Config) -> Blueprint:
    """The document for ``config``, made once."""
    text = msgspec.json.encode(build_document(config, __version__))
    blueprint = Blueprint("durable_streams_openapi", __name__)

    @blueprint.get("/openapi.json", endpoint="openapi")
    def openapi() -> FlaskResponse:
        return FlaskResponse(text, 200, {"Cache-Control": "no-cache"}, mimetype="application/json")

    return blueprint
