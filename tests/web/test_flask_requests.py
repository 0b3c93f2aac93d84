"""Requests that the endpoint of the streams never sees have a record each, too."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.conftest import OpenServer
from tests.web.driving import Server

# method, path -> operation, status, level, error.type
RECORDS = [
    ("GET", "/healthz", "health", 200, "INFO", None),
    ("GET", "/readyz", "readiness", 200, "INFO", None),
    ("POST", "/healthz", "request", 405, "WARNING", "/errors/method-not-allowed"),
    ("GET", "/nowhere?a=b", "request", 404, "WARNING", "/errors/not-found"),
    ("GET", "/broken", "request", 500, "ERROR", "/errors/internal"),
]


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    server = open_server(log={"rust_log": "info"})

    def broken() -> str:
        raise RuntimeError("a mistake")

    server.flask.add_url_rule("/broken", view_func=broken)
    server.service.open()
    return server


def fields_of(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    (record,) = [record for record in caplog.records if record.name == "durable_streams.request"]
    fields: dict[str, Any] = record.__dict__["fields"]
    return fields | {"level": record.levelname}


@pytest.mark.parametrize(("method", "path", "operation", "status", "level", "error_type"), RECORDS)
def test_what_flask_answers_is_recorded(
    server: Server,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    operation: str,
    status: int,
    level: str,
    error_type: str | None,
) -> None:
    server.request(method, path)
    fields = fields_of(caplog)
    assert (fields["ds.operation"], fields["http.response.status_code"]) == (operation, status)
    assert (fields["level"], fields.get("error.type")) == (level, error_type)
    assert fields["url.path"] == path.partition("?")[0]
    assert fields["event.duration"] > 0
    assert "ds.stream_id" not in fields


def test_a_mistake_is_recorded_with_its_cause_and_its_trace(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.get("/broken")
    assert fields_of(caplog)["error.message"] == "RuntimeError('a mistake')"
    (failure,) = [record for record in caplog.records if record.name == "durable_streams.web"]
    assert failure.exc_info is not None


def test_nothing_is_recorded_that_the_filter_does_not_want(
    open_server: OpenServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = open_server(log={"rust_log": "warn"})
    server.get("/healthz")
    assert not caplog.records
