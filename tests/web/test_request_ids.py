"""Request ids: taken when they are well formed, made otherwise; in the answer, in problems and in the log."""

from __future__ import annotations

import logging

import pytest

from durable_streams.telemetry.formats import FIELDS_ATTRIBUTE
from tests.web.conftest import OpenServer
from tests.web.driving import TEXT, Server

ON = {"request_ids": True}


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    return open_server(http=ON)


@pytest.mark.parametrize("sent", ["a", "req-1", "0HN2:0001", "a/b+c=", "x" * 128])
@pytest.mark.parametrize("target", ["s?offset=-1", "missing", "/healthz", "/nowhere"])
def test_a_well_formed_id_comes_back(server: Server, sent: str, target: str) -> None:
    server.put("s", b"x", TEXT)
    assert server.get(target, {"X-Request-Id": sent}).headers.getall("X-Request-Id") == [sent]


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a,b", "<b>", '"', "a\tb", "\xe4"])
def test_any_other_is_replaced_by_one_that_is_made(server: Server, sent: str) -> None:
    first, second = (server.get("s", {"X-Request-Id": sent}).headers["X-Request-Id"] for _ in range(2))
    assert first not in (sent, second)
    assert len(first) < 40


def test_a_problem_names_it(server: Server) -> None:
    problem = server.get("missing", {"X-Request-Id": "mine"})
    assert problem.json["request_id"] == "mine"
    assert server.get("/nowhere", {"X-Request-Id": "mine"}).json["request_id"] == "mine"


def test_event_streams_and_long_polls_have_one(server: Server) -> None:
    server.put("s", b"x", TEXT | {"Stream-Closed": "true"})
    for live in ("sse", "long-poll"):
        reader = server.reading(f"s?offset=-1&live={live}", {"X-Request-Id": live})
        reader.rest()
        assert reader.headers["X-Request-Id"] == live


def test_the_log_has_it(open_server: OpenServer, caplog: pytest.LogCaptureFixture) -> None:
    server = open_server(http=ON, log={"rust_log": "info"})
    with caplog.at_level(logging.INFO, "durable_streams.request"):
        server.put("s", b"x", TEXT | {"X-Request-Id": "mine"})
    (record,) = [record for record in caplog.records if record.name == "durable_streams.request"]
    assert getattr(record, FIELDS_ATTRIBUTE)["http.request.id"] == "mine"


def test_without_the_setting_there_is_none(open_server: OpenServer) -> None:
    server = open_server()
    response = server.get("missing", {"X-Request-Id": "mine"})
    assert "X-Request-Id" not in response.headers
    assert "request_id" not in response.json
