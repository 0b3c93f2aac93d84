"""The probes: alive from the first moment, ready only between the opening of the storage and the stop."""

from __future__ import annotations

import pytest

from tests.web.conftest import OpenServer
from tests.web.driving import Server


def probe(server: Server, path: str) -> tuple[int, str]:
    answer = server.get(path)
    assert answer.content_type == "text/plain"
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status_int, answer.text


def test_a_server_is_alive_before_it_is_ready(server: Server) -> None:
    assert probe(server, "/healthz") == (200, "ok")
    assert probe(server, "/readyz") == (503, "not ready")
    server.service.open()
    assert probe(server, "/readyz") == (200, "ready")


def test_a_stop_is_seen_at_once_and_the_server_stays_alive(server: Server) -> None:
    server.service.open()
    server.service.stop_live()
    assert probe(server, "/readyz") == (503, "not ready")
    assert probe(server, "/healthz") == (200, "ok")
    server.close()
    assert probe(server, "/readyz") == (503, "not ready")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_head_tells_the_same_without_a_body(server: Server, path: str) -> None:
    assert server.head(path).status_int == server.get(path).status_int
    assert server.head(path).body == b""


@pytest.mark.parametrize("base", ["/", "/healthy"])
def test_the_probes_are_served_whatever_the_base_path_is(open_server: OpenServer, base: str) -> None:
    server = open_server(http={"stream_base_path": base})
    assert probe(server, "/healthz") == (200, "ok")
    server.service.open()
    assert probe(server, "/readyz") == (200, "ready")
