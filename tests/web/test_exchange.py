"""Gates and observers: who may refuse a request and who learns of it, in our own app, in Flask's routes, embedded."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import gevent
import pytest
from flask import Flask, abort
from webtest import TestApp

from durable_streams import InMemoryStorage, build_blueprint
from durable_streams.app import create_app
from durable_streams.config import Config
from durable_streams.protocol.errors import Forbidden, ProtocolError, TooManyRequests, Unauthorized
from durable_streams.web.blueprint import EXTENSION
from durable_streams.web.exchange import Exchange, LiveEnd
from tests.web.driving import BASE, CLOSE, JSON, PATIENCE_S, TEXT, Headers, Reader

QUIET = {"log": {"rust_log": "off"}}


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.finishes: list[tuple[str, str, str | None, int, str | None]] = []
        self.ends: list[tuple[LiveEnd | None, int]] = []
        self.exchanges: list[Exchange] = []

    def finished(
        self, exchange: Exchange, status: int, duration_ns: int, error: ProtocolError | None
    ) -> None:
        assert duration_ns > 0
        self.exchanges.append(exchange)
        code = error.code if error else None
        self.finishes.append((exchange.operation, exchange.name, exchange.live, status, code))

    def ended(self, exchange: Exchange, duration_ns: int) -> None:
        assert duration_ns > 0
        assert exchange in self.exchanges, "an end comes after its beginning"
        self.ends.append((exchange.end, exchange.sent_bytes))


def embedded(**arguments: Any) -> Flask:
    config = Config.model_validate(QUIET | arguments.pop("settings", {}))
    app = Flask("theirs")
    app.register_blueprint(build_blueprint(InMemoryStorage(), config, **arguments), url_prefix=BASE)
    return app


def own(**arguments: Any) -> Flask:
    config = Config.model_validate(QUIET | arguments.pop("settings", {}))
    return create_app(config, InMemoryStorage(), **arguments)


@pytest.fixture(params=[own, embedded], ids=["own app", "embedded"])
def build(request: pytest.FixtureRequest) -> Callable[..., Flask]:
    builder: Callable[..., Flask] = request.param
    return builder


# method, target, headers, body -> operation, name, live, status, code
EXCHANGES: list[tuple[str, str, Headers, bytes, tuple[str, str, str | None, int, str | None]]] = [
    ("PUT", "a/b", TEXT, b"x", ("create", "a/b", None, 201, None)),
    ("POST", "s", TEXT, b"x", ("append", "s", None, 204, None)),
    ("GET", "s", {}, b"", ("read", "s", None, 200, None)),
    ("HEAD", "s", {}, b"", ("head", "s", None, 200, None)),
    ("DELETE", "s", {}, b"", ("delete", "s", None, 204, None)),
    ("OPTIONS", "s", {}, b"", ("preflight", "s", None, 204, None)),
    ("PATCH", "s", {}, b"", ("request", "s", None, 405, "METHOD_NOT_ALLOWED")),
    ("GET", "s?offset=-1&live=long-poll", {}, b"", ("poll", "s", "long-poll", 200, None)),
    ("GET", "closed?offset=-1&live=sse", {}, b"", ("subscribe", "closed", "sse", 200, None)),
    ("GET", "s?offset=-1&l%69ve=sse%00", {}, b"", ("read", "s", None, 400, "BAD_REQUEST")),
    ("GET", "closed?offset=-1&liv%65=ss%65", {}, b"", ("subscribe", "closed", "sse", 200, None)),
    ("GET", "s?x=live=sse", {}, b"", ("read", "s", None, 200, None)),
    ("GET", "no?offset=-1&live=sse", {}, b"", ("subscribe", "no", "sse", 404, "NOT_FOUND")),
    ("GET", "a//b", {}, b"", ("request", "a//b", None, 400, "INVALID_STREAM_NAME")),
    ("GET", "%C3%A4", {}, b"", ("read", "\u00e4", None, 404, "NOT_FOUND")),
    ("GET", "a%ff", {}, b"", ("request", "a\ufffd", None, 400, "INVALID_STREAM_NAME")),
    ("PUT", "__ds/x", JSON, b"{}", ("request", "__ds/x", None, 404, "NOT_FOUND")),
]


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "expected"), EXCHANGES, ids=lambda value: str(value)[:30]
)
def test_an_observer_learns_of_every_request_once(
    build: Callable[..., Flask],
    method: str,
    target: str,
    headers: Headers,
    body: bytes,
    expected: tuple[str, str, str | None, int, str | None],
) -> None:
    recorder = Recorder()
    client = TestApp(build(observers=[recorder]))
    client.put(BASE + "s", b"x", headers=TEXT)
    client.put(BASE + "closed", b"x", headers={**TEXT, **CLOSE})
    recorder.finishes.clear()
    client.request(BASE + target, method=method, headers=headers, body=body, status="*")
    assert recorder.finishes == [expected]


def test_the_routes_of_our_own_flask_app_are_observed_and_gated_too() -> None:
    recorder, seen = Recorder(), []
    client = TestApp(own(observers=[recorder], gates=[lambda exchange: seen.append(exchange.operation)]))
    for path in ("/healthz", "/readyz", "/nowhere"):
        client.get(path, status="*")
    assert [finish[0] for finish in recorder.finishes] == ["health", "readiness", "request"]
    assert seen == ["health", "readiness", "request"]


def test_observers_are_called_in_order_and_one_that_fails_disturbs_nobody(
    build: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Recorder):
        def finished(self, *arguments: Any) -> None:
            raise RuntimeError("finished")

        def ended(self, *arguments: Any) -> None:
            raise RuntimeError("ended")

    recorder = Recorder()
    client = TestApp(build(observers=[Failing(), recorder]))
    client.put(BASE + "s", b"x", headers={**TEXT, **CLOSE})
    assert client.get(BASE + "s?offset=-1&live=sse").status_int == 200
    assert [finish[0] for finish in recorder.finishes] == ["create", "subscribe"]
    assert len(recorder.ends) == 1
    assert {record.exc_info[1].args[0] for record in caplog.records if record.exc_info} == {
        "finished",
        "ended",
    }  # type: ignore[union-attr]


# -- gates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (
            Unauthorized("who are you?", 'Bearer realm="streams"'),
            401,
            ("WWW-Authenticate", 'Bearer realm="streams"'),
        ),
        (Forbidden("not you"), 403, None),
        (TooManyRequests("slowly", 7), 429, ("Retry-After", "7")),
    ],
    ids=["401", "403", "429"],
)
@pytest.mark.parametrize("path", [BASE + "s", "/healthz"])
def test_a_gate_refuses_with_a_problem(
    error: ProtocolError, status: int, header: tuple[str, str] | None, path: str
) -> None:
    def refuse(exchange: Exchange) -> None:
        raise error

    recorder = Recorder()
    response = TestApp(own(gates=[refuse], observers=[recorder])).get(path, status=status)
    assert response.content_type == "application/problem+json"
    assert (response.json["code"], response.json["detail"]) == (error.code, error.detail)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    if header is not None:
        assert response.headers[header[0]] == header[1]
    assert [finish[3:] for finish in recorder.finishes] == [(status, error.code)]


@pytest.mark.parametrize("method", ["PUT", "POST", "GET", "HEAD", "DELETE"])
def test_a_refused_request_reads_nothing_and_changes_nothing(
    build: Callable[..., Flask], method: str
) -> None:
    refusing = False

    def gate(exchange: Exchange) -> None:
        if refusing:
            raise Forbidden("no")

    class Unreadable(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise AssertionError("the body was read")

    app = build(gates=[gate])
    client = TestApp(app)
    client.put(BASE + "s", b"x", headers=TEXT)
    refusing = True
    target, environ = BASE + ("new" if method == "PUT" else "s"), {"wsgi.input": Unreadable()}
    response = client.request(target, method=method, headers=TEXT, environ=environ, status=403)
    assert response.status_int == 403
    refusing = False
    assert client.get(BASE + "s").body == b"x"
    assert client.get(BASE + "new", status=404).status_int == 404


def test_a_gate_knows_whom_it_lets_do_what(build: Callable[..., Flask]) -> None:
    recorder, seen = Recorder(), []

    def identify(exchange: Exchange) -> None:
        exchange.principal = exchange.environ.get("HTTP_X_USER")

    def look(exchange: Exchange) -> None:
        seen.append((exchange.principal, exchange.operation, exchange.name, exchange.live, exchange.source))

    client = TestApp(build(gates=[identify, look], observers=[recorder]))
    client.put(BASE + "a", headers={**TEXT, "X-User": "ada"})
    client.put(BASE + "b", headers={"Stream-Forked-From": BASE + "a", "X-User": "bob"})
    assert seen == [("ada", "create", "a", None, None), ("bob", "create", "b", None, "a")]
    assert [exchange.principal for exchange in recorder.exchanges] == ["ada", "bob"]


def test_behind_a_gate_shared_caches_keep_nothing(build: Callable[..., Flask]) -> None:
    for gates, visibility in (([], "public"), ([lambda exchange: None], "private")):
        client = TestApp(build(gates=gates))
        client.put(BASE + "s", b"x", headers=TEXT)
        assert client.get(BASE + "s").headers["Cache-Control"].split(",")[0] == visibility


def test_a_preflight_passes_no_gate(build: Callable[..., Flask]) -> None:
    def refuse(exchange: Exchange) -> None:
        raise Unauthorized("no")

    assert TestApp(build(gates=[refuse])).options(BASE + "s").status_int == 204


def test_a_gate_may_abort_as_flask_does(build: Callable[..., Flask]) -> None:
    def gate(exchange: Exchange) -> None:
        abort(403, "members only")

    response = TestApp(build(gates=[gate])).get(BASE + "s", status=403)
    assert response.content_type == "application/problem+json"
    assert response.json["detail"] == "members only"


def test_a_gate_that_fails_lets_nobody_in(build: Callable[..., Flask]) -> None:
    def gate(exchange: Exchange) -> None:
        raise RuntimeError("secret")

    response = TestApp(build(gates=[gate])).put(BASE + "s", headers=TEXT, status=500)
    assert response.json["code"] == "INTERNAL_ERROR"
    assert "secret" not in response.text


# -- the end of live reads ---------------------------------------------------------------------------------------


def live_app(build: Callable[..., Flask], **settings: Any) -> tuple[Flask, TestApp, Recorder]:
    recorder = Recorder()
    app = build(observers=[recorder], settings=settings)
    client = TestApp(app)
    client.put(BASE + "s", b"x", headers=TEXT)
    return app, client, recorder


def reader_of(app: Flask, query: str) -> Reader:
    reader = Reader(app, f"s?{query}", {}, {})
    gevent.sleep(0)
    return reader


def end_of(reader: Reader, recorder: Recorder) -> tuple[LiveEnd | None, int, int]:
    """The one end that was observed, and the bytes that the reader has got."""
    body = reader.rest()
    reader.greenlet.join(PATIENCE_S)
    ((end, sent_bytes),) = recorder.ends
    return end, sent_bytes, len(body)


@pytest.mark.parametrize(
    ("live", "cause"),
    [
        ("sse", "closed"),
        ("sse", "deleted"),
        ("sse", "timeout"),
        ("sse", "stopping"),
        ("long-poll", "closed"),
        ("long-poll", "timeout"),
        ("long-poll", "stopping"),
    ],
)
def test_an_observer_learns_why_a_live_read_has_ended(
    build: Callable[..., Flask], live: str, cause: str
) -> None:
    times = (
        {"sse_reconnect_interval_secs": 0.05, "long_poll_timeout_secs": 0.05} if cause == "timeout" else {}
    )
    app, client, recorder = live_app(build, server=times)
    reader = reader_of(app, f"offset=now&live={live}")
    if cause == "closed":
        client.post(BASE + "s", headers=CLOSE)
    elif cause == "deleted":
        client.delete(BASE + "s")
    elif cause == "stopping":
        app.extensions[EXTENSION].stop_live()
    end, sent_bytes, got_bytes = end_of(reader, recorder)
    expected = {
        "closed": LiveEnd.CLOSED,
        "deleted": LiveEnd.DELETED,
        "timeout": LiveEnd.TIMEOUT,
        "stopping": LiveEnd.STOPPING,
    }
    assert (end, sent_bytes) == (expected[cause], got_bytes)


def test_a_long_poll_that_is_refused_after_waiting_is_an_ordinary_refusal(
    build: Callable[..., Flask],
) -> None:
    app, client, recorder = live_app(build)
    reader = reader_of(app, "offset=now&live=long-poll")
    client.delete(BASE + "s")
    reader.rest()
    assert (reader.status, recorder.ends) == (404, [])
    assert ("poll", "s", "long-poll", 404, "NOT_FOUND") in recorder.finishes


def test_a_long_poll_ends_with_data(build: Callable[..., Flask]) -> None:
    app, client, recorder = live_app(build)
    reader = reader_of(app, "offset=now&live=long-poll")
    client.post(BASE + "s", b"four", headers=TEXT)
    assert end_of(reader, recorder) == (LiveEnd.DATA, 4, 4)


def test_the_end_of_a_reader_that_leaves_is_observed(build: Callable[..., Flask]) -> None:
    app, _, recorder = live_app(build)
    reader = reader_of(app, "offset=-1&live=sse")
    first = reader.piece()
    assert first is not None
    reader.leave()
    assert recorder.ends == [(LiveEnd.CLIENT_GONE, len(first))]


def test_the_end_of_an_event_stream_that_nobody_has_begun_to_read_is_observed() -> None:
    app, _, recorder = live_app(own)
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": BASE + "s",
        "QUERY_STRING": "offset=-1&live=sse",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    body: Any = app(environ, lambda status, headers: lambda data: None)
    body.close()
    body.close()
    assert recorder.ends == [(LiveEnd.CLIENT_GONE, 0)]


def test_without_observers_a_response_is_not_wrapped() -> None:
    app = own()
    assert app.extensions[EXTENSION].is_ready is False
    TestApp(app).put(BASE + "s", headers=TEXT)
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": BASE + "s",
        "QUERY_STRING": "offset=-1&live=sse",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    body: Any = app(environ, lambda status, headers: lambda data: None)
    assert type(body).__name__ == "generator"
    body.close()
