"""What browsers need: security headers on every answer, CORS by setting, preflights (section 12.7)."""

from __future__ import annotations

from typing import Any

import pytest

from durable_streams.config import HttpSettings
from durable_streams.web.cors import CorsHeaders
from tests.web.conftest import OpenServer
from tests.web.driving import TEXT, Headers, Server

ORIGIN = "https://app.example"
OTHER = "https://other.example"

REQUESTS: list[tuple[str, str, bytes, Headers]] = [
    ("PUT", "s", b"", TEXT),
    ("PUT", "s", b"", {}),
    ("POST", "s", b"x", TEXT),
    ("POST", "s", b"", TEXT),
    ("GET", "s", b"", {}),
    ("GET", "s", b"", {"If-None-Match": "*"}),
    ("GET", "s?offset=now", b"", {}),
    ("GET", "s?offset=now&live=long-poll", b"", {}),
    ("GET", "s?offset=-1&live=long-poll", b"", {}),
    ("GET", "closed?offset=-1&live=sse", b"", {}),
    ("GET", "nobody", b"", {}),
    ("HEAD", "s", b"", {}),
    ("HEAD", "nobody", b"", {}),
    ("PATCH", "s", b"", {}),
    ("OPTIONS", "s", b"", {}),
    ("OPTIONS", "nobody", b"", {}),
    ("OPTIONS", "__ds/x", b"", {}),
    ("GET", "a//b", b"", {}),
    ("GET", "__ds/x", b"", {}),
    ("GET", "/nowhere", b"", {}),
    ("GET", "/healthz", b"", {}),
    ("GET", "/readyz", b"", {}),
    ("POST", "/healthz", b"", {}),
    ("DELETE", "s", b"", {}),
]


def asked(server: Server, row: tuple[str, str, bytes, Headers], **more: str) -> Any:
    method, target, body, headers = row
    server.put("s", headers=TEXT)
    server.put("closed", b"x", {**TEXT, "Stream-Closed": "true"})
    return server.request(method, target, body, {**headers, **more})


def short_lived(open_server: OpenServer, **http: Any) -> Server:
    return open_server(http=http, server={"long_poll_timeout_secs": 0.01})


@pytest.mark.parametrize("row", REQUESTS, ids=lambda row: f"{row[0]} {row[1]}")
@pytest.mark.parametrize("origins", [("*",), (ORIGIN,), ()], ids=["any", "one", "none"])
def test_every_answer_has_the_security_headers_once_and_cors_by_setting(
    open_server: OpenServer, origins: tuple[str, ...], row: tuple[str, str, bytes, Headers]
) -> None:
    server = short_lived(open_server, cors_origins=origins)
    for origin in (None, ORIGIN, OTHER):
        answer = asked(server, row, **({} if origin is None else {"Origin": origin}))
        assert answer.headers.getall("X-Content-Type-Options") == ["nosniff"]
        assert answer.headers.getall("Cross-Origin-Resource-Policy") == ["cross-origin"]
        allowed = answer.headers.getall("Access-Control-Allow-Origin")
        if origins == ("*",):
            assert allowed == ["*"]
        else:
            assert allowed == ([ORIGIN] if origin == ORIGIN and origins else [])
            assert ("Origin" in answer.headers.get("Vary", "")) == bool(origins)
        assert answer.headers.getall("Access-Control-Expose-Headers") != [] or not allowed
        credentials = answer.headers.getall("Access-Control-Allow-Credentials")
        assert credentials == (["true"] if allowed == [ORIGIN] else [])


def test_a_preflight_allows_every_method_and_header_of_the_protocol(server: Server) -> None:
    preflight = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "producer-id, stream-seq",
    }
    plain = server.request("OPTIONS", "any/stream", headers={"Origin": ORIGIN})
    assert plain.headers["Access-Control-Allow-Headers"] != preflight["Access-Control-Request-Headers"]
    answer = server.request("OPTIONS", "any/stream", headers=preflight)
    assert answer.headers["Access-Control-Allow-Headers"] == preflight["Access-Control-Request-Headers"]
    answer = plain
    assert (answer.status_int, answer.body) == (204, b"")
    methods = set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    assert methods == {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"}
    headers = {name.lower() for name in answer.headers["Access-Control-Allow-Headers"].split(", ")}
    assert headers >= {
        "content-type",
        "stream-ttl",
        "stream-expires-at",
        "stream-seq",
        "stream-closed",
        "stream-forked-from",
        "stream-fork-offset",
        "stream-fork-sub-offset",
        "producer-id",
        "producer-epoch",
        "producer-seq",
        "if-none-match",
        "last-event-id",
        "authorization",
    }
    assert int(answer.headers["Access-Control-Max-Age"]) > 0


@pytest.mark.parametrize(
    ("origins", "asked", "allowed"),
    [
        (["*"], "x-anything,authorization, traceparent", True),
        (["*"], "", False),
        (["*"], "no token", False),
        (["*"], "x-\u00e9", False),
        (["*"], "a,,b", False),
        ([ORIGIN], "x-anything", False),
        ([], "x-anything", False),
    ],
)
def test_any_header_may_be_sent_where_every_origin_is_allowed(
    open_server: OpenServer, origins: list[str], asked: str, allowed: bool
) -> None:
    server = open_server(http={"cors_origins": origins, "cors_allowed_headers": ["X-Mine"]})
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Headers": asked}
    names = server.request("OPTIONS", "s", headers=preflight).headers["Access-Control-Allow-Headers"]
    assert names == asked if allowed else names.endswith(", Stream-TTL, X-Mine")


# the Host of the request, the origin of the page, whether the page may delete
DELETIONS = [
    ("localhost:4437", "https://evil.example", False),
    ("127.0.0.1:4437", "https://evil.example", False),
    ("[::1]:4437", "http://evil.example:4437", False),
    ("streams.localhost", "https://evil.example", False),
    ("LOCALHOST:4437", "null", False),
    ("localhost:4437", "https://localhost.evil.example", False),
    ("localhost:4437", "http://127.0.0.1.evil.example", False),
    ("localhost:4437", "http://localhost:5173", True),
    ("127.0.0.1:4437", "http://app.localhost:3000", True),
    ("localhost:4437", "http://localhost:4437", True),
    ("localhost:4437", None, True),
    ("streams.example", "https://app.example", True),
    ("localhost.example", "https://app.example", True),
]


@pytest.mark.parametrize(("host", "origin", "allowed"), DELETIONS)
def test_a_page_from_elsewhere_may_not_delete_on_localhost(
    server: Server, host: str, origin: str | None, allowed: bool
) -> None:
    server.request("PUT", "s", headers=TEXT)
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
    answer = server.request("DELETE", "s", headers=headers)
    assert answer.status_int == (204 if allowed else 403)
    assert answer.status_int == 204 or answer.json["code"] == "CROSS_ORIGIN_WRITE"
    assert server.request("GET", "s").status_int == (404 if allowed else 200)


def test_other_writes_stay_open_where_every_origin_is_allowed(server: Server) -> None:
    headers = {**TEXT, "Host": "localhost:4437", "Origin": "https://evil.example"}
    assert server.request("PUT", "s", headers=headers).status_int == 201
    assert server.request("POST", "s", body=b"x", headers=headers).status_int == 204


WRITES = [
    ("PUT", {}),
    ("POST", TEXT),
    ("DELETE", {}),
    ("PATCH", {}),
    ("POST", {**TEXT, "Sec-Fetch-Site": "cross-site"}),
]


@pytest.mark.parametrize(("method", "headers"), WRITES)
@pytest.mark.parametrize(
    ("origins", "origin", "refused"),
    [
        (["*"], "http://localhost:5173", False),
        ([ORIGIN], ORIGIN, False),
        ([ORIGIN], None, False),
        ([ORIGIN], OTHER, True),
        ([ORIGIN], "null", True),
        ([ORIGIN], "https://localhost.evil.example", True),
        ([], OTHER, True),
        ([ORIGIN], "http://localhost:80", False),
        ([], "https://localhost:80", False),
    ],
)
def test_a_page_of_another_origin_may_not_write(
    open_server: OpenServer,
    origins: list[str],
    origin: str | None,
    refused: bool,
    method: str,
    headers: Headers,
) -> None:
    server = open_server(http={"cors_origins": origins})
    server.put("s", b"", TEXT)
    answer = server.request(
        method, "s", b"x" if headers else b"", {**headers, **({"Origin": origin} if origin else {})}
    )
    if refused:
        assert (answer.status_int, answer.json["code"]) == (403, "CROSS_ORIGIN_WRITE")
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert server.get("s").body == b""
    else:
        assert answer.status_int != 403
    for method in ("GET", "HEAD", "OPTIONS"):
        assert server.request(method, "s", headers={"Origin": OTHER}).status_int in (200, 204, 404)


def test_the_browsers_word_for_the_same_origin_counts(open_server: OpenServer) -> None:
    """Behind a proxy that sends another Host, the origin of the page cannot be compared."""
    server = open_server(http={"cors_origins": []})
    headers = {"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}
    assert server.request("PUT", "s", headers=headers).status_int == 201


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("s", 200),
        ("s?offset=now", 200),
        ("s?offset=-1&live=long-poll", 200),
        ("s?offset=-1&live=sse", 200),
    ],
)
@pytest.mark.parametrize("content_type", ["text/html", "image/svg+xml", "text/plain", "application/json"])
def test_stored_content_cannot_run_in_the_origin_of_the_server(
    server: Server, content_type: str, target: str, status: int
) -> None:
    server.put("s", b"[1]", {"Content-Type": content_type, "Stream-Closed": "true"})
    answer = server.request("GET", target)
    assert answer.status_int == status
    assert answer.headers.getall("Content-Security-Policy") == ["sandbox"]
    assert answer.headers.getall("X-Content-Type-Options") == ["nosniff"]


def test_scripts_of_an_allowed_origin_may_read_the_headers_of_the_protocol(open_server: OpenServer) -> None:
    server = open_server(http={"cors_origins": [ORIGIN]})
    answer = server.request("PUT", "s", headers={**TEXT, "Origin": ORIGIN})
    exposed = {name.lower() for name in answer.headers["Access-Control-Expose-Headers"].split(", ")}
    assert exposed >= {
        "stream-next-offset",
        "stream-cursor",
        "stream-up-to-date",
        "stream-closed",
        "stream-ttl",
        "stream-expires-at",
        "stream-sse-data-encoding",
        "producer-epoch",
        "producer-seq",
        "producer-expected-seq",
        "producer-received-seq",
        "etag",
        "location",
    }


@pytest.mark.parametrize("origin", ["null", ORIGIN + ".evil.example", "http://app.example", ORIGIN.upper()])
def test_an_origin_that_only_resembles_an_allowed_one_is_not_allowed(
    open_server: OpenServer, origin: str
) -> None:
    server = open_server(http={"cors_origins": [ORIGIN]})
    assert "Access-Control-Allow-Origin" not in server.request("GET", "s", headers={"Origin": origin}).headers


@pytest.mark.parametrize(
    ("origins", "allowed"), [(("*",), "*"), ((), None), ((ORIGIN,), ORIGIN), ((ORIGIN, OTHER), "*")]
)
def test_a_refusal_of_what_could_not_be_read_may_be_read_by_the_pages_that_use_the_server(
    origins: tuple[str, ...], allowed: str | None
) -> None:
    headers = dict(CorsHeaders(HttpSettings(cors_origins=origins)).of_unread)
    assert headers.get("Access-Control-Allow-Origin") == allowed
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert ("Vary" in headers) == (allowed == ORIGIN)
