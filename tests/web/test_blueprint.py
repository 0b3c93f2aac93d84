"""The endpoint inside somebody else's Flask app: mounted anywhere, told of readiness, ended by their event."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Blueprint, Flask
from gevent.event import Event
from webtest import TestApp

from durable_streams import InMemoryStorage, build_blueprint
from durable_streams.config import Config
from durable_streams.eventloop import stopping
from durable_streams.service import StreamService
from durable_streams.web.blueprint import EXTENSION
from tests.event_streams import EventStream
from tests.web.driving import CLOSE, JSON, TEXT, Reader

CONFIG = Config.model_validate({"log": {"rust_log": "off"}})


def app_with(prefix: str | None, **flags: Any) -> Flask:
    app = Flask("theirs")
    app.register_blueprint(build_blueprint(InMemoryStorage(), CONFIG, **flags), url_prefix=prefix)
    return app


@pytest.mark.parametrize("prefix", ["/streams", "/a/b/", "/v1/stream", "/", None])
def test_it_serves_below_any_prefix(prefix: str | None) -> None:
    client = TestApp(app_with(prefix))
    base = (prefix or "").rstrip("/")
    created = client.put(f"{base}/a/b", "one", headers=TEXT)
    assert created.status_int == 201
    assert created.headers["Location"] == f"http://localhost:80{base}/a/b"
    client.post(f"{base}/a/b", " two", headers={**TEXT, **CLOSE})
    answer = client.get(f"{base}/a/b?offset=-1")
    assert (answer.text, answer.headers["Stream-Closed"]) == ("one two", "true")
    assert client.head(f"{base}/a/b").headers["Cache-Control"] == "no-store"
    fork = {"Stream-Forked-From": f"{base}/a/b"}
    assert client.put(f"{base}/fork", headers=fork).status_int == 201
    assert client.delete(f"{base}/a/b").status_int == 204


def test_it_answers_every_method_with_the_headers_of_the_protocol() -> None:
    client = TestApp(app_with("/streams"))
    for method, status in (("OPTIONS", 204), ("PATCH", 405), ("GET", 404), ("HEAD", 404)):
        answer = client.request("/streams/s", method=method, status=status)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_the_routes_of_the_app_are_left_alone() -> None:
    app = app_with("/streams")
    app.add_url_rule("/page", view_func=lambda: "page")
    client = TestApp(app)
    assert client.get("/page").text == "page"
    assert "X-Content-Type-Options" not in client.get("/page").headers
    assert client.get("/streamsandmore", status=404).content_type == "text/html"


def test_it_may_be_part_of_another_blueprint() -> None:
    outer = Blueprint("outer", "outer")
    outer.register_blueprint(build_blueprint(InMemoryStorage(), CONFIG), url_prefix="/inner")
    app = Flask("theirs")
    app.register_blueprint(outer, url_prefix="/outer")
    client = TestApp(app)
    assert client.put("/outer/inner/s", headers=JSON).status_int == 201
    assert client.get("/outer/inner/s").json == []


def test_an_event_stream_is_not_held_back_by_the_app() -> None:
    app = app_with("/streams")
    TestApp(app).put("/streams/s", "old", headers=TEXT)
    reader = Reader(app, "/streams/s?offset=-1&live=sse", {}, {})
    first = reader.piece()
    assert first is not None
    assert [event.kind for event in EventStream().feed(first)] == ["data", "control"]
    TestApp(app).post("/streams/s", "", headers=CLOSE)
    assert b"streamClosed" in reader.rest()
    assert reader.headers["X-Accel-Buffering"] == "no"


def test_a_kept_answer_to_head_and_304_has_no_body() -> None:
    client = TestApp(app_with("/streams"))
    client.put("/streams/s", "text", headers=TEXT)
    tag = client.get("/streams/s").headers["ETag"]
    assert client.get("/streams/s", headers={"If-None-Match": tag}, status=304).body == b""
    assert client.head("/streams/s").body == b""


@pytest.mark.parametrize("flag", [threading.Event, Event])
def test_readiness_is_told_to_whatever_has_set_and_clear(flag: Any) -> None:
    ready = flag()
    app = app_with("/streams", ready=ready)
    assert not ready.is_set()
    TestApp(app).get("/streams/s", status=404)
    assert ready.is_set()
    app.extensions[EXTENSION].close()
    assert not ready.is_set()


def test_the_event_of_the_app_ends_those_who_wait() -> None:
    shutdown = Event()
    ready = Event()
    app = app_with("/streams", shutdown=shutdown, ready=ready)
    TestApp(app).put("/streams/s", "old", headers=TEXT)
    readers = [
        Reader(app, f"/streams/s?offset=now&live={mode}", {}, {}) for mode in ("sse", "sse", "long-poll")
    ]
    assert readers[0].piece() is not None
    shutdown.set()
    for reader in readers:
        reader.rest()
    assert [reader.status for reader in readers] == [200, 200, 204]
    assert not ready.is_set()
    # What does not wait is still answered: the app decides when it stops.
    assert TestApp(app).get("/streams/s").text == "old"


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_a_read_only_blueprint_serves_reads_alone(method: str) -> None:
    app = app_with("/streams", read_only=True)
    client = TestApp(app)
    response = client.request("/streams/s", method=method, headers=TEXT, status=405)
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
    preflight = client.options("/streams/s")
    assert preflight.headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
    assert client.get("/streams/s", status=404).json["code"] == "NOT_FOUND"


def test_two_blueprints_of_one_app_are_both_told_of_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    # Services that other tests of this process have left open are not stopped here.
    monkeypatch.setattr(stopping, "_on_drain", {})
    monkeypatch.setattr(stopping, "_on_stopped", {})
    app = Flask("theirs")
    first, second = (build_blueprint(InMemoryStorage(), CONFIG) for _ in range(2))
    app.register_blueprint(first, url_prefix="/a")
    app.register_blueprint(second, url_prefix="/b", name="second")
    client = TestApp(app)
    assert client.put("/a/s", headers=TEXT).status_int == 201
    assert client.get("/b/s", status=404).status_int == 404
    assert {type(app.extensions[name]) for name in (EXTENSION, "second")} == {StreamService}
    stopping.drain()
    stopping.finish()
    assert {client.get(f"/{part}/s", status=503).status_int for part in "ab"} == {503}
