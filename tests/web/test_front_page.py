"""The page at `/`."""

from __future__ import annotations

import re
import tomllib

from durable_streams import __version__
from tests.servers import ROOT
from tests.web.conftest import OpenServer
from tests.web.driving import Server


def test_it_names_the_server_its_version_and_the_storage_mode(server: Server) -> None:
    answer = server.get("/")
    assert (answer.status_int, answer.content_type) == (200, "text/html")
    assert f"<h1>durable-streams-server {__version__}</h1>" in answer.text
    assert "<code>memory</code>" in answer.text
    assert "<code>/v1/stream/NAME</code>" in answer.text


def test_it_links_to_the_probes_and_to_the_pages_of_the_project(server: Server) -> None:
    links = re.findall(r'href="([^"]+)"', server.get("/").text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert links == [*project["urls"].values(), "/healthz", "/readyz", "/openapi.json"]
    assert server.get("/healthz").status_int == 200


def test_it_holds_no_script_and_may_load_nothing(server: Server) -> None:
    answer = server.get("/")
    assert "<script" not in answer.text
    assert answer.headers.getall("Content-Security-Policy") == ["default-src 'none'; frame-ancestors 'none'"]
    assert answer.headers.getall("X-Content-Type-Options") == ["nosniff"]


def test_what_comes_from_the_configuration_is_escaped(open_server: OpenServer) -> None:
    server = open_server(http={"stream_base_path": "/a&b"})
    assert "<code>/a&amp;b/NAME</code>" in server.get("/").text


def test_a_server_whose_streams_are_at_the_root_has_no_page(open_server: OpenServer) -> None:
    server = open_server(http={"stream_base_path": "/"})
    assert "text/html" not in server.get("/").headers["Content-Type"]
