"""Every refusal is a problem document, whoever refuses: the protocol, the routes, Flask, or a mistake of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gevent
import pytest
from flask import abort

from durable_streams.protocol.errors import StorageFull, StreamDamaged, Unavailable
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Lost, Unit
from durable_streams.storage.memory import InMemoryStorage
from tests.web.conftest import OpenServer
from tests.web.driving import BASE, BYTES, CLOSE, JSON, TEXT, Headers, Server

FORK = {"Stream-Forked-From": "s"}

# method, target, body, headers -> status, type, code
REFUSALS: list[tuple[str, str, bytes, Headers, int, str, str]] = [
    ("GET", "nobody", b"", {}, 404, "not-found", "NOT_FOUND"),
    ("PUT", "s", b"", BYTES, 409, "already-exists", "ALREADY_EXISTS"),
    ("POST", "s", b"x", BYTES, 409, "content-type-mismatch", "CONTENT_TYPE_MISMATCH"),
    ("POST", "closed", b"x", TEXT, 409, "stream-closed", "STREAM_CLOSED"),
    ("POST", "s", b"x", {**TEXT, "Stream-Seq": "5"}, 409, "sequence-conflict", "SEQUENCE_CONFLICT"),
    ("PUT", "new", b"", {"Stream-Forked-From": "gone"}, 409, "fork-from-tombstone", "FORK_FROM_TOMBSTONE"),
    ("PUT", "gone", b"", TEXT, 409, "path-blocked", "PATH_BLOCKED"),
    ("GET", "s?offset=x", b"", {}, 400, "invalid-offset", "INVALID_OFFSET"),
    ("PUT", "a//b", b"", TEXT, 400, "invalid-stream-name", "INVALID_STREAM_NAME"),
    ("POST", "json", b"{", JSON, 400, "invalid-json", "INVALID_JSON"),
    ("POST", "s", b"", TEXT, 400, "empty-body", "EMPTY_BODY"),
    ("POST", "json", b"[]", JSON, 400, "empty-array", "EMPTY_ARRAY"),
    ("GET", "s?live=sse", b"", {}, 400, "bad-request", "BAD_REQUEST"),
    ("PUT", "new", b"x" * 101, TEXT, 413, "request-body-too-large", "REQUEST_BODY_TOO_LARGE"),
    ("PUT", "new", b"x" * 51, TEXT, 413, "payload-too-large", "PAYLOAD_TOO_LARGE"),
    ("GET", "gone", b"", {}, 410, "gone", "GONE"),
    ("PATCH", "s", b"", {}, 405, "method-not-allowed", "METHOD_NOT_ALLOWED"),
    ("GET", "/nowhere", b"", {}, 404, "not-found", "NOT_FOUND"),
    ("POST", "/", b"", {}, 405, "method-not-allowed", "METHOD_NOT_ALLOWED"),
    ("GET", "/v1/streams", b"", {}, 404, "not-found", "NOT_FOUND"),
    ("POST", "/healthz", b"", {}, 405, "method-not-allowed", "METHOD_NOT_ALLOWED"),
    ("DELETE", "/readyz", b"", {}, 405, "method-not-allowed", "METHOD_NOT_ALLOWED"),
]


@pytest.fixture(scope="module")
def refusing() -> Server:
    server = Server(limits={"max_request_body_bytes": 100, "max_stream_bytes": 50})
    server.put("s", b"abc", TEXT)
    server.post("s", b"d", {**TEXT, "Stream-Seq": "5"})
    server.put("json", b"[]", JSON)
    server.put("closed", headers={**TEXT, **CLOSE})
    server.put("gone", headers=TEXT)
    server.put("keeps", headers={"Stream-Forked-From": "gone"})
    server.delete("gone")
    return server


def check_problem(answer: Any, path: str, status: int, type_: str, code: str) -> None:
    assert answer.status_int == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    problem = answer.json
    assert set(problem) == {"type", "title", "status", "code", "detail", "instance"}
    assert (problem["type"], problem["status"], problem["code"]) == (f"/errors/{type_}", status, code)
    assert problem["instance"] == path
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "status", "type_", "code"),
    REFUSALS,
    ids=[f"{row[0]}-{row[5]}-{number}" for number, row in enumerate(REFUSALS)],
)
def test_a_refusal_is_a_problem_document(
    refusing: Server,
    method: str,
    target: str,
    body: bytes,
    headers: Headers,
    status: int,
    type_: str,
    code: str,
) -> None:
    answer = refusing.request(method, target, body, headers)
    path = (target if target.startswith("/") else BASE + target).partition("?")[0]
    check_problem(answer, path, status, type_, code)


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("method", ["PATCH", "TRACE", "CONNECT", "PROPFIND", "get", "M-SEARCH"])
def test_methods_that_are_not_served_are_told_which_are(refusing: Server, method: str) -> None:
    answer = refusing.request(method, "s")
    assert answer.status_int == 405
    assert answer.headers["Allow"] == "GET, HEAD, POST, PUT, DELETE, OPTIONS"


def test_the_probes_too_say_what_they_allow(refusing: Server) -> None:
    assert refusing.post("/healthz").headers["Allow"] == "GET, HEAD, OPTIONS"


def test_the_instance_is_the_path_as_it_has_to_be_written(refusing: Server) -> None:
    answer = refusing.get("%C3%A4%20b/%22?offset=-1")
    assert answer.json["instance"] == f"{BASE}%C3%A4%20b/%22"


def test_an_error_never_is_an_event_stream(refusing: Server) -> None:
    for target in ("nobody?offset=-1&live=sse", "gone?offset=-1&live=sse", "s?offset=x&live=sse"):
        answer = refusing.get(target, {"Accept": "text/event-stream"})
        assert answer.headers["Content-Type"] == "application/problem+json"


# -- what goes wrong inside --------------------------------------------------------------------------------------


class Failing(InMemoryStorage):
    """Memory that fails in the way it is told to."""

    error: Exception | None = None

    def commit(self, shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]) -> Lost:
        self._fail()
        return super().commit(shard, units, rests_on)

    def read(self, state: StreamState, start: int, stop: int) -> bytes:
        self._fail()
        return super().read(state, start, stop)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("error", "status", "type_", "code"),
    [
        (Unavailable("busy: /secret/path"), 503, "unavailable", "UNAVAILABLE"),
        (StorageFull("no room: /secret/path"), 507, "insufficient-storage", "INSUFFICIENT_STORAGE"),
        (StreamDamaged("checksum: /secret/path"), 500, "internal", "INTERNAL_ERROR"),
        (RuntimeError("bug: /secret/path"), 500, "internal", "INTERNAL_ERROR"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_failure_is_answered_without_what_only_the_log_should_know(
    open_server: OpenServer, method: str, error: Exception, status: int, type_: str, code: str
) -> None:
    storage = Failing()
    server = open_server(storage)
    server.put("s", b"abc", TEXT)
    storage.error = error
    target = "new" if method == "PUT" else "s"
    answer = server.request(method, target, b"x" if method in ("POST", "PUT") else b"", TEXT)
    storage.error = None
    check_problem(answer, BASE + target, status, type_, code)
    assert "secret" not in answer.text
    assert answer.headers.get("Retry-After") == ("1" if status == 503 else None)
    assert (server.get("s").body, server.head("new").status_int) == (b"abc", 404)


def test_a_failure_in_flask_itself_is_a_problem_document_too(open_server: OpenServer) -> None:
    server = open_server()

    def broken() -> str:
        raise RuntimeError("secret")

    server.flask.add_url_rule("/broken", view_func=broken)
    answer = server.get("/broken")
    check_problem(answer, "/broken", 500, "internal", "INTERNAL_ERROR")
    assert "secret" not in answer.text


def test_an_abort_in_flask_keeps_its_status(open_server: OpenServer) -> None:
    server = open_server()
    server.flask.add_url_rule("/teapot", view_func=lambda: abort(418))
    check_problem(server.get("/teapot"), "/teapot", 418, "i'm-a-teapot", "I'M_A_TEAPOT")


def test_requests_after_the_stop_are_unavailable(open_server: OpenServer) -> None:
    server = open_server()
    server.put("s", headers=TEXT)
    server.service.close()
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        answer = server.request(method, "s")
        assert (answer.status_int, answer.headers["Retry-After"]) == (503, "1")


class Opening(InMemoryStorage):
    """Memory that takes its time to open, and may not open at all."""

    error: Exception | None = None
    opened = 0

    def open(self) -> None:
        self.opened += 1
        gevent.sleep(0)
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "type_", "code"),
    [
        (Unavailable("owned by /secret/process"), 503, "unavailable", "UNAVAILABLE"),
        (OSError("no such directory: /secret/path"), 500, "internal", "INTERNAL_ERROR"),
    ],
)
def test_a_storage_that_does_not_open_is_a_problem_document_and_tried_again(
    open_server: OpenServer, embedded: bool, error: Exception, status: int, type_: str, code: str
) -> None:
    storage = Opening()
    storage.error = error
    server = open_server(storage, embedded=embedded)
    check_problem(server.get("s"), BASE + "s", status, type_, code)
    storage.error = None
    assert server.put("s", headers=TEXT).status_int == 201


def test_requests_that_come_at_once_open_the_storage_once(open_server: OpenServer) -> None:
    storage = Opening()
    server = open_server(storage)
    requests = [gevent.spawn(server.put, f"s{number}", b"x", TEXT) for number in range(5)]
    gevent.joinall(requests, raise_error=True)
    assert {request.value.status_int for request in requests} == {201}
    assert storage.opened == 1
