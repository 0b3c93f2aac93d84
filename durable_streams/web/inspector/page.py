"""``GET /inspect`` and its assets. What a stream holds never runs in it: only scripts with the nonce of the answer do.

The page itself tells nothing, so it needs no token: it asks for one, and sends it with all that it asks of the server.
"""

from __future__ import annotations

import secrets
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Final

from flask import Blueprint, abort, request
from flask import Response as FlaskResponse

from durable_streams.config import Config
from durable_streams.web.admin.guard import guard

PREFIX: Final = "/inspect"
NONCE_BYTES: Final = 18
POLICY: Final = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing is loaded from elsewhere, no text becomes markup or a script, and no page may frame this one."""
TYPES: Final = {
    "app.mjs": "text/javascript",
    "charts.mjs": "text/javascript",
    "dialogs.mjs": "text/javascript",
    "history.mjs": "text/javascript",
    "inspector.css": "text/css",
    "overview.mjs": "text/javascript",
    "requests.mjs": "text/javascript",
    "stream.mjs": "text/javascript",
    "streams.mjs": "text/javascript",
    "values.mjs": "text/javascript",
    "vendor/LICENSES.txt": "text/plain",
    "vendor/htm-preact.mjs": "text/javascript",
    "vendor/uplot.css": "text/css",
    "vendor/uplot.js": "text/javascript",
}
"""Every asset, with its media type."""


def build_inspector_blueprint(config: Config, *, gated: bool) -> Blueprint:
    """``GET /inspect``. ``gated``: something controls access; otherwise only localhost is answered."""
    base = config.http.stream_base_path[0].rstrip("/")
    blueprint = Blueprint("durable_streams_inspector", __name__)
    guard(blueprint, gated=gated)

    @blueprint.get(PREFIX, endpoint="inspector")
    def inspector() -> FlaskResponse:
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        root = request.script_root
        values = {"nonce": nonce, "root": root, "base": root + base}
        text = _asset("index.html")[0].decode()
        for name, value in values.items():
            text = text.replace(f"{{{{{name}}}}}", escape(value))
        return FlaskResponse(
            text, 200, {"Content-Security-Policy": POLICY.format(nonce=nonce)}, mimetype="text/html"
        )

    @blueprint.get(f"{PREFIX}/<path:name>", endpoint="inspector_asset")
    def asset(name: str) -> FlaskResponse:
        if name not in TYPES:
            abort(404)
        body, tag = _asset(name)
        response = FlaskResponse(body, 200, {"Cache-Control": "no-cache"}, mimetype=TYPES[name])
        response.set_etag(tag)
        response.make_conditional(request)
        return response

    return blueprint


@cache
def _asset(name: str) -> tuple[bytes, str]:
    """The bytes of an asset, and their tag."""
    body = files("durable_streams.web.inspector").joinpath("assets", name).read_bytes()
    return body, sha256(body).hexdigest()[:32]
