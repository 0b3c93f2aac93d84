"""The page at `/`: what answers here, in which version and mode, and where to read on. Plain HTML without a script."""

from __future__ import annotations

from html import escape
from importlib import metadata
from typing import Final

from flask import Blueprint
from flask import Response as FlaskResponse

from durable_streams import __version__
from durable_streams.config import Config
from durable_streams.extras import DISTRIBUTION

HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def build_front_page_blueprint(config: Config) -> Blueprint:
    """``GET /`` of the server's own app."""
    page = _page(config)
    blueprint = Blueprint("durable_streams_front_page", __name__)

    @blueprint.get("/")
    def front_page() -> FlaskResponse:
        return FlaskResponse(page, 200, HEADERS, mimetype="text/html")

    return blueprint


def _page(config: Config) -> str:
    links = {
        **_project_urls(),
        "Alive": "/healthz",
        "Ready for requests": "/readyz",
        "OpenAPI": "/openapi.json",
    }
    items = "".join(f'<li><a href="{escape(url)}">{escape(name)}</a></li>\n' for name, url in links.items())
    places = " and ".join(f"<code>{escape(path)}/NAME</code>" for path in config.http.stream_base_path)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{DISTRIBUTION}</title>
<h1>{DISTRIBUTION} {__version__}</h1>
<p>Streams are at {places}, in storage mode
<code>{escape(config.storage.mode)}</code>.</p>
<ul>
{items}</ul>
</html>
"""


def _project_urls() -> dict[str, str]:
    """The links of pyproject.toml, as the installed package has them; none where it is not installed."""
    try:
        entries = metadata.metadata(DISTRIBUTION).get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return {}
    return {name.strip(): url.strip() for name, _, url in (entry.partition(",") for entry in entries)}
