"""The inspector's page and assets: who gets them, under which policy, and that what is vendored is what npm has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from durable_streams.config import Config, ConfigLoadOptions
from durable_streams.web.inspector.page import TYPES
from tests.conftest import absent
from tests.servers import ROOT
from tests.web.conftest import OpenServer
from tests.web.driving import Server

ON = {"enabled": True, "inspector": True}
ASSETS = ROOT / "durable_streams" / "web" / "inspector" / "assets"
VENDORED = {
    "vendor/htm-preact.mjs": ("htm", "preact/standalone.module.js"),
    "vendor/uplot.css": ("uplot", "dist/uPlot.min.css"),
    "vendor/uplot.js": ("uplot", "dist/uPlot.iife.min.js"),
}


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    return open_server(admin=ON)


def test_only_scripts_of_the_page_itself_may_run(server: Server) -> None:
    answers = [server.get("/inspect") for _ in range(2)]
    nonces = [re.findall(r'nonce="([^"]+)"', answer.text) for answer in answers]
    assert len({*nonces[0], *nonces[1]}) == 2, "one nonce an answer"
    policy = answers[0].headers["Content-Security-Policy"]
    assert f"script-src 'nonce-{nonces[0][0]}';" in policy
    for directive in (
        "default-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ):
        assert directive in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert answers[0].headers["Cache-Control"] == "no-store"
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=", answers[0].text)


def test_the_page_knows_where_it_is_mounted(open_server: OpenServer) -> None:
    server = open_server(admin=ON, http={"stream_base_path": "/s"})
    text = server.request("GET", "/inspect", SCRIPT_NAME="/below").text
    assert 'data-root="/below" data-base="/below/s"' in text
    assert 'src="/below/inspect/app.mjs"' in text


def test_every_asset_is_served_with_its_type_and_can_be_revalidated(server: Server) -> None:
    for name, media_type in TYPES.items():
        answer = server.get(f"/inspect/{name}")
        assert (answer.status_int, answer.content_type) == (200, media_type)
        assert answer.body == (ASSETS / name).read_bytes()
        assert server.get(f"/inspect/{name}", {"If-None-Match": answer.headers["ETag"]}).status_int == 304


def test_the_table_of_assets_is_what_there_is() -> None:
    files = {str(path.relative_to(ASSETS)) for path in ASSETS.rglob("*") if path.is_file()}
    assert files == {*TYPES, "index.html"}


@pytest.mark.parametrize("name", ["index.html", "none.mjs", "../page.py", "%2e%2e/page.py", "vendor/"])
def test_nothing_else_is_served(server: Server, name: str) -> None:
    assert server.get(f"/inspect/{name}").status_int == 404


def test_no_asset_makes_markup_of_text() -> None:
    for path in ASSETS.glob("*.mjs"):
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|dangerously|\beval\b|new Function",
            path.read_text(encoding="utf-8"),
        )
        assert found is None, path.name


def test_it_is_off_by_default_and_in_production(open_server: OpenServer) -> None:
    assert open_server(admin={"enabled": True}).get("/inspect").status_int == 404
    load = ConfigLoadOptions(profile="prod", environ={}, root=ROOT)
    assert Config.load(load).admin.inspector is False


def test_it_needs_the_admin_api() -> None:
    with pytest.raises(ValidationError, match=r"admin\.enabled must be true too"):
        Config.model_validate({"admin": {"inspector": True}})


def test_without_access_control_only_localhost_gets_it(server: Server) -> None:
    for path in ("/inspect", "/inspect/app.mjs"):
        assert server.get(path, {"Host": "evil.example"}).status_int == 403


def test_with_access_control_the_page_needs_no_token_and_its_api_does(
    open_server: OpenServer, tmp_path: Path
) -> None:
    server = open_server(admin=ON, auth={"mode": "tokens", "tokens_path": str(tmp_path / "tokens.json")})
    assert server.get("/inspect", {"Host": "streams.example"}).status_int == 200
    assert server.get("/inspect/app.mjs").status_int == 200
    assert server.get("/admin/streams").status_int == 401


def test_what_is_vendored_is_what_the_lock_file_names() -> None:
    lock = json.loads((ROOT / "tests" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    licences = (ASSETS / "vendor" / "LICENSES.txt").read_text(encoding="utf-8")
    for name, (package, path) in VENDORED.items():
        assert f"=== {package} {lock[f'node_modules/{package}']['version']}\n" in licences
        source = ROOT / "tests" / "node_modules" / package / path
        if not source.is_file():
            absent(f"the npm package {package} is not installed: `make test` does it")
        assert (ASSETS / name).read_bytes() == source.read_bytes()
