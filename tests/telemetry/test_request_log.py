"""One record a request: its fields, its level, and when there is none."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from durable_streams.config import LogSettings
from durable_streams.protocol.errors import (
    InternalError,
    ProtocolError,
    StorageFull,
    StreamDamaged,
    Unavailable,
)
from durable_streams.telemetry import RequestLog
from tests.telemetry.conftest import CapturedLog, exchange

Install = Callable[..., CapturedLog]

ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/v1/stream/orders/2026/eu",
    "QUERY_STRING": "offset=-1&live=sse",
    "HTTP_HOST": "streams.example:4437",
    "REMOTE_ADDR": "192.0.2.7",
    "HTTP_USER_AGENT": "reader/1.0",
    "SERVER_PROTOCOL": "HTTP/1.1",
}

# status, level, message, error.type when the caller has no problem to name
OUTCOMES = [
    (200, "info", "request completed", None),
    (201, "info", "request completed", None),
    (204, "info", "request completed", None),
    (304, "info", "request completed", None),
    (400, "warn", "request completed with client error", "client_error"),
    (404, "warn", "request completed with client error", "client_error"),
    (413, "warn", "request completed with client error", "client_error"),
    (499, "warn", "request completed with client error", "client_error"),
    (500, "error", "request failed", "server_error"),
    (503, "error", "request failed", "server_error"),
]

# filter -> which of 200, 404, 500 are logged
WANTED = [
    ("trace", (True, True, True)),
    ("debug", (True, True, True)),
    ("info", (True, True, True)),
    ("warn", (False, True, True)),
    ("error", (False, False, True)),
    ("off", (False, False, False)),
    ("off,durable_streams.request=warn", (False, True, True)),
    ("info,durable_streams.request=off", (False, False, False)),
    ("warn,durable_streams=info", (True, True, True)),
    ("info,durable_streams::request=error", (False, False, True)),
]


def record(
    log: RequestLog,
    environ: dict[str, str] | None = None,
    status: int = 200,
    problem: Any = None,
    **changes: Any,
) -> None:
    log.finished(exchange(environ or ENVIRON, **changes), status, 1_234_567, problem)


def test_a_record_has_the_fields_of_ecs_and_opentelemetry(install: Install) -> None:
    log = install(format="json")
    record(RequestLog(LogSettings(), "memory"))
    (found,) = log.objects
    assert {name: value for name, value in found.items() if name not in ("@timestamp", "process.pid")} == {
        "log.level": "info",
        "log.logger": "durable_streams.request",
        "ecs.version": "8.11.0",
        "message": "request completed",
        "ds.operation": "subscribe",
        "ds.stream_id": "orders/2026/eu",
        "ds.live_mode": "sse",
        "ds.storage.backend": "memory",
        "http.request.method": "GET",
        "http.route": "/v1/stream/{name}",
        "http.response.status_code": 200,
        "url.path": "/v1/stream/orders/2026/eu",
        "url.query": "offset=-1&live=sse",
        "server.address": "streams.example",
        "client.address": "192.0.2.7",
        "user_agent.original": "reader/1.0",
        "network.protocol.version": "1.1",
        "event.duration": 1_234_567,
    }


@pytest.mark.parametrize(("status", "level", "message", "error_type"), OUTCOMES)
def test_the_status_decides_level_and_message(
    install: Install, status: int, level: str, message: str, error_type: str | None
) -> None:
    log = install(format="json")
    record(RequestLog(LogSettings(), "memory"), status=status)
    (found,) = log.objects
    assert (found["log.level"], found["message"], found.get("error.type")) == (level, message, error_type)


@pytest.mark.parametrize("failure", [Unavailable, StorageFull, InternalError, StreamDamaged])
def test_a_failure_gives_the_cause_that_its_client_is_not_told(
    install: Install, failure: Callable[[str], ProtocolError]
) -> None:
    log = install(format="json")
    problem = failure("too many writes are waiting")
    record(RequestLog(LogSettings(), "memory"), status=problem.status, problem=problem)
    (found,) = log.objects
    assert found["error.message"] == "too many writes are waiting"
    assert "too many" not in problem.detail


def test_a_problem_gives_its_type_code_and_detail(install: Install) -> None:
    log = install(format="json")
    problem = SimpleNamespace(
        type="/errors/not-found", code="NOT_FOUND", detail="Stream not found: orders", status=404
    )
    record(RequestLog(LogSettings(), "memory"), status=404, problem=problem)
    (found,) = log.objects
    assert found["error.type"] == "/errors/not-found"
    assert found["ds.error_code"] == "NOT_FOUND"
    assert found["error.message"] == "Stream not found: orders"


@pytest.mark.parametrize(("rust_log", "wanted"), WANTED)
def test_the_filter_decides_whether_a_request_may_be_logged(rust_log: str, wanted: tuple[bool, ...]) -> None:
    assert RequestLog(LogSettings(rust_log=rust_log), "memory").wants_any == any(wanted)


@pytest.mark.parametrize(("rust_log", "wanted"), WANTED)
def test_what_is_wanted_is_what_the_installed_log_writes(
    install: Install, rust_log: str, wanted: tuple[bool, ...]
) -> None:
    captured = install(rust_log=rust_log)
    log = RequestLog(LogSettings(rust_log=rust_log), "memory")
    for status in (200, 404, 500):
        record(log, status=status)
    assert len(captured.lines) == sum(wanted)


@pytest.mark.parametrize("status", [100, 200, 304, 404, 599, 999])
def test_every_status_has_a_record(install: Install, status: int) -> None:
    log = install(format="json")
    record(RequestLog(LogSettings(), "memory"), status=status)
    assert log.objects[0]["http.response.status_code"] == status


def test_the_end_of_an_event_stream_has_a_record_of_its_own(install: Install) -> None:
    log = install(format="json")
    ended = exchange(ENVIRON, sent_bytes=4096, end="client gone")
    RequestLog(LogSettings(), "memory").ended(ended, 61_000_000_000)
    (found,) = log.objects
    assert found["message"] == "event stream ended"
    assert found["http.response.body.bytes"] == 4096
    assert (found["ds.live_end"], found["event.duration"]) == ("client gone", 61_000_000_000)


def test_the_one_record_of_a_long_poll_says_how_it_has_ended(install: Install) -> None:
    log = install(format="json")
    ended = exchange(ENVIRON, live="long-poll", sent_bytes=7, end="data")
    RequestLog(LogSettings(), "memory").finished(ended, 200, 1, None)
    (found,) = log.objects
    assert (found["http.response.body.bytes"], found["ds.live_end"]) == (7, "data")


@pytest.mark.parametrize(("changes", "rust_log"), [({"live": "long-poll"}, "info"), ({}, "warn")])
def test_no_other_end_has_one(install: Install, changes: dict[str, str], rust_log: str) -> None:
    log = install(rust_log=rust_log)
    RequestLog(LogSettings(rust_log=rust_log), "memory").ended(exchange(ENVIRON, **changes), 1)
    assert log.lines == []


def test_absent_facts_are_absent_fields(install: Install) -> None:
    log = install(format="json")
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/healthz", "SERVER_PROTOCOL": "HTTP/1.0"}
    record(RequestLog(LogSettings(), "memory"), environ, operation="health", name="", live=None)
    (found,) = log.objects
    assert found["network.protocol.version"] == "1.0"
    assert None not in found.values()
    absent = {"ds.stream_id", "ds.live_mode", "http.route", "url.query", "user_agent.original"}
    assert not absent & found.keys()


@pytest.mark.parametrize(
    ("host", "address"),
    [("a.example", "a.example"), ("a.example:80", "a.example"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")],
)
def test_the_server_address_is_the_asked_host_without_its_port(
    install: Install, host: str, address: str
) -> None:
    log = install(format="json")
    record(RequestLog(LogSettings(), "memory"), ENVIRON | {"HTTP_HOST": host})
    assert log.objects[0]["server.address"] == address


def test_a_name_beyond_ascii_is_logged_as_its_text(install: Install) -> None:
    log = install(format="json")
    path = "/v1/stream/größe/日本".encode().decode("latin-1")
    record(RequestLog(LogSettings(), "memory"), ENVIRON | {"PATH_INFO": path}, name="größe/日本")
    (found,) = log.objects
    assert found["url.path"] == "/v1/stream/größe/日本"
    assert found["http.route"] == "/v1/stream/{name}"


def test_the_route_keeps_the_prefix_of_a_mounted_blueprint(install: Install) -> None:
    log = install(format="json")
    record(RequestLog(LogSettings(), "memory"), ENVIRON | {"SCRIPT_NAME": "/shop"})
    assert log.objects[0]["http.route"] == "/shop/v1/stream/{name}"
