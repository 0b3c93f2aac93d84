"""The control plane over HTTP: routes, forms, creating, confirming, reading, deleting, membership (section 6)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from durable_streams.protocol.errors import ProtocolError
from durable_streams.web.exchange import Exchange
from tests.subscriptions.conftest import OpenSubscribed
from tests.subscriptions.driving import SUBSCRIPTIONS, Subscribed, error_of
from tests.web.driving import BASE, JSON, TEXT, Server

PULL: dict[str, Any] = {"type": "pull-wake", "pattern": "events/*", "wake_stream": "wake/pool"}
HOOK: dict[str, Any] = {
    "type": "webhook",
    "pattern": "events/*",
    "webhook": {"url": "http://127.0.0.1:9/hook"},
}
ZERO = "0000000000000000_0000000000000000"
JWKS = "jwks.json"


def put(server: Subscribed, document: dict[str, Any], sub: str = "sub-1") -> Any:
    return server.control("PUT", sub, document=document)


# -- 3.1: routing and addressing ---------------------------------------------------------------------------------------

UNSERVED = [
    "__ds",
    "__ds/",
    "__ds/x",
    "__ds//x",
    "__ds/subscriptions/",
    "__ds/subscriptions//x",
    "__ds/jwks.json/",
    "__ds/subscriptions/x/",
    "__ds/subscriptions/x/unknown",
    "__ds/subscriptions/x/streams/",
    "__ds/subscriptions/x/claim/y",
    "__ds/keys/x",
]


@pytest.mark.parametrize("path", [*UNSERVED, "%5F_ds", "__ds%2Fx", "%5f%5fds/jwks"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "PATCH"])
def test_r1_what_is_not_served_below_the_reserved_segment_is_404_for_every_method(
    server: Subscribed, method: str, path: str
) -> None:
    response = server.request(method, path, b"{}" if method in ("PUT", "POST") else b"", JSON)
    assert error_of(response) == (404, "NOT_FOUND")
    assert server.store.storage.names("", "", 10) == []


@pytest.mark.parametrize(
    "written", ["%5F_ds/subscriptions/a%3Ab", "__ds%2Fsubscriptions%2Fa:b", "__ds/subscriptions/a:b"]
)
def test_r1_every_spelling_leads_to_the_control_plane(server: Subscribed, written: str) -> None:
    server.create("wake/pool")
    assert server.request("PUT", written, json.dumps(PULL).encode(), JSON).status_int == 201
    assert server.shown("a:b")["id"] == "a:b"


@pytest.mark.parametrize("path", ["a/__ds", "__dsx", "__DS", "a/__ds/subscriptions/x", "_ds"])
def test_r2_other_names_are_ordinary_streams(server: Subscribed, path: str) -> None:
    assert server.put(path, b"x", TEXT).status_int == 201
    assert server.get(path).body == b"x"


def test_r2_internal_streams_cannot_be_reached(server: Subscribed) -> None:
    server.subscribe()
    internal = server.store.storage.names("__ds/", "", 10)
    assert internal
    for name in internal:
        for method in ("GET", "POST", "DELETE", "HEAD"):
            response = server.request(method, quote(name), b"", {})
            assert response.status_int in (200, 204, 404, 405)
            assert "Stream-Next-Offset" not in response.headers
    fork = server.put("fork", b"", {"Stream-Forked-From": internal[0]})
    assert fork.status_int == 404


@pytest.mark.parametrize(
    "sub", ["runner:7", "webhook:ab12", "a b", "\N{EURO SIGN}", "100%", "a+b", "x" * 256]
)
def test_r4_an_id_is_percent_decoded_once(server: Subscribed, sub: str) -> None:
    assert server.subscribe(sub)["id"] == sub
    assert server.shown(sub)["subscription_id"] == sub


@pytest.mark.parametrize("written", ["%0A", "%7F", "%FF", "%C3%28", "..", "x" * 257])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_r4_an_id_that_cannot_be_is_refused(server: Subscribed, method: str, written: str) -> None:
    response = server.request(method, f"{SUBSCRIPTIONS}/{written}", json.dumps(PULL).encode(), JSON)
    assert error_of(response) == (400, "INVALID_REQUEST")


METHODS = {
    f"{SUBSCRIPTIONS}": "GET, HEAD, OPTIONS",
    f"{SUBSCRIPTIONS}/x": "GET, PUT, DELETE, HEAD, OPTIONS",
    f"{SUBSCRIPTIONS}/x/streams": "POST, OPTIONS",
    f"{SUBSCRIPTIONS}/x/streams/a/b": "DELETE, OPTIONS",
    f"{SUBSCRIPTIONS}/x/callback": "POST, OPTIONS",
    f"{SUBSCRIPTIONS}/x/claim": "POST, OPTIONS",
    f"{SUBSCRIPTIONS}/x/ack": "POST, OPTIONS",
    f"{SUBSCRIPTIONS}/x/release": "POST, OPTIONS",
    "__ds/jwks.json": "GET, HEAD, OPTIONS",
    "__ds/keys": "POST, OPTIONS",
}


@pytest.mark.parametrize("path", METHODS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_d7_a_wrong_method_is_405_and_the_right_ones_are_named(
    server: Subscribed, path: str, method: str
) -> None:
    if method in METHODS[path].split(", "):
        return
    response = server.request(method, path)
    assert (response.status_int, response.headers["Allow"]) == (405, METHODS[path])
    if method != "HEAD":
        assert error_of(response) == (405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("path", METHODS)
def test_d7_browsers_may_ask_first(server: Subscribed, path: str) -> None:
    response = server.request("OPTIONS", path)
    assert response.status_int == 204
    assert "Authorization" in response.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize("path", [SUBSCRIPTIONS, f"{SUBSCRIPTIONS}/sub-1", "__ds/jwks.json"])
def test_d7_head_is_get_without_a_body(server: Subscribed, path: str) -> None:
    server.subscribe()
    got, head = server.get(path), server.head(path)
    assert (head.status_int, head.body, head.content_type) == (200, b"", got.content_type)
    assert server.head(f"{SUBSCRIPTIONS}/nobody").status_int == 404


WITH_BODY = [("PUT", ""), ("POST", "/streams"), ("POST", "/claim")]


@pytest.mark.parametrize(("method", "action"), WITH_BODY)
@pytest.mark.parametrize(
    "content_type", ["text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_d6_a_body_that_a_browser_would_send_unasked_is_refused(
    server: Subscribed, method: str, action: str, content_type: str
) -> None:
    response = server.request(
        method, f"{SUBSCRIPTIONS}/sub-1{action}", json.dumps(PULL).encode(), {"Content-Type": content_type}
    )
    assert error_of(response) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", ""])
def test_d6_json_is_accepted_and_so_is_a_body_that_names_no_type(
    server: Subscribed, content_type: str
) -> None:
    server.create("wake/pool")
    headers = {"Content-Type": content_type} if content_type else {}
    response = server.request("PUT", f"{SUBSCRIPTIONS}/sub-1", json.dumps(PULL).encode(), headers)
    assert response.status_int == 201


@pytest.mark.parametrize(("method", "action"), WITH_BODY)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b'{"a":NaN}', b"[" * 100_000])
def test_bodies_that_are_no_json_object_are_refused(
    server: Subscribed, method: str, action: str, body: bytes
) -> None:
    response = server.request(method, f"{SUBSCRIPTIONS}/sub-1{action}", body, JSON)
    assert error_of(response) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(("method", "action"), WITH_BODY)
def test_d20_a_body_is_at_most_a_mebibyte(server: Subscribed, method: str, action: str) -> None:
    body = json.dumps(PULL | {"x": "a" * 1024 * 1024}).encode()
    response = server.request(method, f"{SUBSCRIPTIONS}/sub-1{action}", body, JSON)
    assert error_of(response) == (413, "REQUEST_BODY_TOO_LARGE")


UNKNOWN = [
    ("GET", "", None),
    ("POST", "/streams", {"streams": ["a"]}),
    ("DELETE", "/streams/a", None),
    ("POST", "/callback", {"wake_id": "w", "generation": 1}),
    ("POST", "/claim", {"worker": "w"}),
    ("POST", "/ack", {"wake_id": "w", "generation": 1}),
    ("POST", "/release", {"wake_id": "w", "generation": 1}),
]


@pytest.mark.parametrize(("method", "action", "document"), UNKNOWN)
def test_an_unknown_subscription_is_404_on_every_route(
    server: Subscribed, method: str, action: str, document: Any
) -> None:
    response = server.control(method, "nobody", action, document, token="x")
    assert error_of(response) == (404, "SUBSCRIPTION_NOT_FOUND")


def test_without_subscriptions_nothing_is_served_and_nothing_listens() -> None:
    plain = Server(subscriptions={"enabled": False})
    assert plain.get("__ds/jwks.json").status_int == 404
    assert plain.service.subscriptions is None
    assert len(plain.service.listeners) == 2
    plain.close()


# -- 3.2: create, confirm, read, delete --------------------------------------------------------------------------------


def test_r11_create_confirm_and_conflict(server: Subscribed) -> None:
    server.create("wake/pool")
    created = put(server, PULL)
    again = put(server, PULL | {"lease_ttl_ms": 30_000, "pattern": "/events/*", "unknown": 1})
    assert (created.status_int, again.status_int) == (201, 200)
    assert created.json == again.json == server.shown()
    assert error_of(put(server, PULL | {"lease_ttl_ms": 5000})) == (409, "SUBSCRIPTION_ALREADY_EXISTS")
    assert server.shown() == created.json


def test_r13_the_original_configuration_confirms_after_membership_has_changed(server: Subscribed) -> None:
    server.create("wake/pool")
    config = PULL | {"streams": ["a", "b"]}
    put(server, config)
    server.control("POST", "sub-1", "/streams", {"streams": ["c"]})
    server.control("DELETE", "sub-1", "/streams/a")
    response = put(server, config)
    assert response.status_int == 200
    assert [link["path"] for link in response.json["streams"]] == ["b", "c"]


def test_r14_no_answer_holds_a_secret(server: Subscribed) -> None:
    put(server, HOOK | {"webhook": HOOK["webhook"] | {"secret": "hunter2"}, "webhook_secret": "hunter2"})
    for text in (server.control("GET", "sub-1").text, put(server, HOOK).text, server.get(SUBSCRIPTIONS).text):
        assert "secret" not in text
        assert "hunter2" not in text
        assert "seed" not in text


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/hook", "https://10.0.0.1/", "https://[::1]/", "ftp://a.example/", ""]
)
def test_r15_an_unsafe_webhook_url_is_refused(server: Subscribed, url: str) -> None:
    response = put(server, HOOK | {"webhook": {"url": url}})
    assert error_of(response) == (400, "WEBHOOK_URL_REJECTED")
    assert server.control("GET", "sub-1").status_int == 404


def test_r15_localhost_needs_the_switch(open_server: OpenSubscribed) -> None:
    server = open_server(subscriptions={"allow_localhost_webhooks": False})
    assert error_of(put(server, HOOK)) == (400, "WEBHOOK_URL_REJECTED")


def test_r16_all_streams_that_match_are_linked_at_once(server: Subscribed) -> None:
    tails = {f"events/{number}": server.create(f"events/{number}", number) for number in range(1200)}
    server.create("event/x", 1)
    server.create("eventsx", 1)
    server.create("events/a/b", 1)
    shown = server.subscribe()
    assert {link["path"]: link["acked_offset"] for link in shown["streams"]} == tails
    assert {link["link_type"] for link in shown["streams"]} == {"glob"}
    assert shown["lag"] == {"streams": 0, "bytes": 0}


def test_r16_a_stream_that_has_gone_is_not_linked(server: Subscribed) -> None:
    server.create("events/deleted", 1)
    server.delete("events/deleted")
    server.create("events/expired", 1, **{"Stream-TTL": "0"})
    server.create("events/forked", 1)
    server.put("fork", b"", {"Stream-Forked-From": "events/forked"})
    server.delete("events/forked")
    assert server.subscribe()["streams"] == []


def test_r17_nothing_is_replayed(server: Subscribed) -> None:
    old, manual = server.create("events/old", 1), server.create("manual/a", 1)
    shown = server.subscribe(streams=["manual/a", "manual/missing"], pattern="events/*")
    assert {link["path"]: link["acked_offset"] for link in shown["streams"]} == {
        "events/old": old,
        "manual/a": manual,
        "manual/missing": ZERO,
    }
    assert server.wake_events() == []
    assert error_of(server.control("POST", "sub-1", "/claim", {"worker": "w"})) == (409, "NO_PENDING_WORK")


def test_r20_the_representation_has_every_member(server: Subscribed) -> None:
    shown = server.subscribe(description="event processor", streams=["b", "a"])
    expected = {
        "id": "sub-1",
        "subscription_id": "sub-1",
        "type": "pull-wake",
        "pattern": None,
        "streams": [
            {"path": "a", "link_type": "explicit", "acked_offset": ZERO},
            {"path": "b", "link_type": "explicit", "acked_offset": ZERO},
        ],
        "webhook": None,
        "wake_stream": "wake/pool",
        "lease_ttl_ms": 30_000,
        "status": "active",
        "description": "event processor",
    }
    assert {key: shown[key] for key in expected} == expected
    assert len(shown["created_at"]) == len("2026-05-09T00:00:00.000Z")
    assert shown["created_at"].endswith("Z")


def test_r21_a_webhook_subscription_names_the_key_that_signs(server: Subscribed) -> None:
    webhook = put(server, HOOK).json["webhook"]
    keys = server.ask("GET", JWKS).json["keys"]
    assert webhook["url"] == HOOK["webhook"]["url"]
    assert webhook["signing"]["alg"] == "ed25519"
    assert webhook["signing"]["kid"] == keys[-1]["kid"]


def test_r22_the_url_of_the_keys_is_absolute_and_by_the_listening_address(server: Subscribed) -> None:
    environ = {"SERVER_NAME": "0.0.0.0", "SERVER_PORT": "4437", "HTTP_HOST": "evil.example"}
    response = server.request("PUT", f"{SUBSCRIPTIONS}/sub-1", json.dumps(HOOK).encode(), JSON, **environ)
    expected = f"http://127.0.0.1:4437{BASE}__ds/jwks.json"
    assert response.json["webhook"]["signing"]["jwks_url"] == expected
    # Whoever asks, and by whatever address: it is the same.
    assert server.shown()["webhook"]["signing"]["jwks_url"] == expected


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80"}, "http://127.0.0.1"),
        ({"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "443", "wsgi.url_scheme": "https"}, "https://127.0.0.1"),
        ({"SERVER_NAME": "::", "SERVER_PORT": "4437"}, "http://[::1]:4437"),
        (
            {"SERVER_NAME": "/run/ds.sock", "SERVER_PORT": "", "HTTP_HOST": "streams.example"},
            "http://streams.example",
        ),
        ({"SERVER_NAME": "10.0.0.5", "SERVER_PORT": "80", "SCRIPT_NAME": "/app"}, "http://10.0.0.5/app"),
    ],
)
def test_r22_the_root_by_the_address_of_the_listener(environ: dict[str, str], root: str) -> None:
    from durable_streams.web.subscriptions.routes import stream_root

    assert stream_root({"wsgi.url_scheme": "http"} | environ, "/v1/stream") == f"{root}/v1/stream"


def test_d19_the_public_url_is_a_setting(open_server: OpenSubscribed) -> None:
    server = open_server(subscriptions={"public_url": "https://streams.example/s"})
    signing = put(server, HOOK).json["webhook"]["signing"]
    assert signing["jwks_url"] == "https://streams.example/s/__ds/jwks.json"


def test_r23_delete_is_204_and_the_id_can_be_used_again(server: Subscribed) -> None:
    server.subscribe()
    for _ in range(2):
        response = server.control("DELETE", "sub-1")
        assert (response.status_int, response.body) == (204, b"")
    assert error_of(server.control("GET", "sub-1")) == (404, "SUBSCRIPTION_NOT_FOUND")
    assert put(server, HOOK).status_int == 201
    assert server.shown()["type"] == "webhook"


def test_d12_deleting_what_was_never_there_is_204(server: Subscribed) -> None:
    assert server.control("DELETE", "nobody").status_int == 204


# -- 3.3: membership ---------------------------------------------------------------------------------------------------


def test_r30_streams_are_added_at_their_tail(server: Subscribed) -> None:
    server.subscribe(pattern="events/*")
    tail = server.create("manual/a", "old")
    response = server.control("POST", "sub-1", "/streams", {"streams": ["manual/a", "/manual/b/"]})
    assert (response.status_int, response.body) == (204, b"")
    assert server.shown()["streams"] == [
        {"path": "manual/a", "link_type": "explicit", "acked_offset": tail},
        {"path": "manual/b", "link_type": "explicit", "acked_offset": ZERO},
    ]
    assert server.wake_events() == []
    server.append("manual/a")
    assert [event["stream"] for event in server.wake_events()] == ["manual/a"]


@pytest.mark.parametrize(
    "document", [{}, {"streams": []}, {"streams": "a"}, {"streams": [7]}, {"streams": ["__ds/x"]}]
)
def test_r30_a_body_without_streams_is_refused(server: Subscribed, document: Any) -> None:
    server.subscribe()
    response = server.control("POST", "sub-1", "/streams", document)
    assert error_of(response) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("written", ["manual%2Fa", "manual/a", "%6Danual/a", "/manual/a/"])
def test_r32_the_path_of_a_link_may_have_slashes_of_both_kinds(server: Subscribed, written: str) -> None:
    server.subscribe(streams=["manual/a", "b"])
    assert server.request("DELETE", f"{SUBSCRIPTIONS}/sub-1/streams/{written}").status_int == 204
    assert [link["path"] for link in server.shown()["streams"]] == ["b"]
    server.create("manual/a", 1)
    assert server.wake_events() == []


def test_r33_the_wake_stream_is_no_member(server: Subscribed) -> None:
    server.subscribe(pattern="**")
    response = server.control("POST", "sub-1", "/streams", {"streams": ["wake/pool"]})
    assert error_of(response) == (400, "INVALID_REQUEST")
    server.create("events/a", 1)
    server.settle()
    assert [link["path"] for link in server.shown()["streams"]] == ["events/a"]
    assert len(server.wake_events()) == 1


def test_r33_two_subscriptions_do_not_wake_each_other(server: Subscribed) -> None:
    server.subscribe("one", pattern="**", wake_stream="wake/one")
    server.subscribe("two", pattern="**", wake_stream="wake/two")
    server.create("events/a", 1)
    for _ in range(3):
        server.settle()
    assert (len(server.messages("wake/one")), len(server.messages("wake/two"))) == (1, 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda server: None, "does not exist"),
        (lambda server: server.put("wake/pool", b"x", TEXT), "not application/json"),
        (lambda server: server.put("wake/pool", b"", JSON | {"Stream-Closed": "true"}), "is closed"),
    ],
)
def test_d13_the_wake_stream_must_be_there_open_and_json(server: Subscribed, make: Any, said: str) -> None:
    make(server)
    response = put(server, PULL)
    assert error_of(response) == (400, "INVALID_REQUEST")
    assert said in response.json["error"]["message"]
    assert server.control("GET", "sub-1").status_int == 404
    # What was begun has left nothing behind.
    assert len(server.registry) == 0
    assert not server.registry.index.may_wake("events/a")


def test_d20_subscriptions_and_links_have_limits(open_server: OpenSubscribed) -> None:
    server = open_server(subscriptions={"max_subscriptions": 2, "max_links": 3})
    for number in range(4):
        server.create(f"many/{number}")
    server.subscribe("one", streams=["a", "b", "c"])
    too_many = server.control("POST", "one", "/streams", {"streams": ["d"]})
    assert error_of(too_many) == (429, "SUBSCRIPTION_LIMIT_EXCEEDED")
    matching = put(server, PULL | {"pattern": "many/*"}, "two")
    assert error_of(matching) == (429, "SUBSCRIPTION_LIMIT_EXCEEDED")
    server.subscribe("two")
    assert error_of(put(server, PULL, "three")) == (429, "SUBSCRIPTION_LIMIT_EXCEEDED")
    server.control("DELETE", "one")
    assert put(server, PULL, "three").status_int == 201


# -- listing -----------------------------------------------------------------------------------------------------------


def test_d23_subscriptions_are_listed_by_id_in_pages(server: Subscribed) -> None:
    for number in (3, 1, 2):
        server.subscribe(f"sub-{number}")
    whole = server.get(SUBSCRIPTIONS).json
    assert [sub["id"] for sub in whole["subscriptions"]] == ["sub-1", "sub-2", "sub-3"]
    assert whole["next"] is None
    shown = server.shown("sub-2")
    del shown["streams"]
    assert whole["subscriptions"][1] == shown
    first = server.get(f"{SUBSCRIPTIONS}?limit=2").json
    assert ([sub["id"] for sub in first["subscriptions"]], first["next"]) == (["sub-1", "sub-2"], "sub-2")
    rest = server.get(f"{SUBSCRIPTIONS}?limit=2&after=sub-2").json
    assert ([sub["id"] for sub in rest["subscriptions"]], rest["next"]) == (["sub-3"], None)


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1e3"])
def test_d23_a_wrong_limit_is_refused(server: Subscribed, limit: str) -> None:
    assert error_of(server.get(f"{SUBSCRIPTIONS}?limit={limit}")) == (400, "INVALID_REQUEST")


def test_d23_the_lag_is_shown(server: Subscribed) -> None:
    server.subscribe()
    assert server.shown()["lag"] == {"streams": 0, "bytes": 0}
    server.create("events/a", "x")
    server.append("events/a", "y")
    server.create("events/b", "z")
    server.settle()
    shown = server.shown()
    assert shown["lag"] == {"streams": 2, "bytes": 3 * len(b'"x",')}
    assert (shown["generation"], shown["wake"]["phase"], shown["wake"]["stream"]) == (1, "waking", "events/a")


# -- access ------------------------------------------------------------------------------------------------------------


class Forbidden(ProtocolError):
    status, type, title, code = 403, "/errors/forbidden", "Forbidden", "FORBIDDEN"


def test_r94_gates_hold_for_the_control_plane(open_server: OpenSubscribed) -> None:
    seen = []

    def gate(exchange: Exchange) -> None:
        seen.append((exchange.operation, exchange.exempt))
        if not exchange.exempt and exchange.environ.get("HTTP_AUTHORIZATION") != "Bearer let me":
            raise Forbidden("no")

    server = open_server(gates=[gate], subscriptions={"allow_open_claims": False})
    assert error_of(put(server, PULL)) == (403, "FORBIDDEN")
    assert error_of(server.control("GET", "sub-1")) == (403, "FORBIDDEN")
    assert error_of(server.control("POST", "sub-1", "/claim", {"worker": "w"})) == (403, "FORBIDDEN")
    assert server.ask("GET", JWKS).status_int == 200
    # With a gate claims are open to whom it lets pass.
    let_in = server.control("POST", "sub-1", "/claim", {"worker": "w"}, token="let me")
    assert error_of(let_in) == (404, "SUBSCRIPTION_NOT_FOUND")
    assert seen == [
        ("put-subscription", False),
        ("get-subscription", False),
        ("claim", False),
        ("jwks", True),
        ("claim", False),
    ]


def test_d18_claims_are_closed_without_access_control(open_server: OpenSubscribed) -> None:
    server = open_server(subscriptions={"allow_open_claims": False})
    server.subscribe()
    response = server.control("POST", "sub-1", "/claim", {"worker": "w"})
    assert error_of(response) == (503, "CLAIMS_CLOSED")


def test_a_read_only_blueprint_serves_no_subscriptions() -> None:
    from flask import Flask
    from webtest import TestApp

    from durable_streams.storage.memory import InMemoryStorage
    from durable_streams.web.blueprint import build_blueprint

    app = Flask("embedding")
    blueprint = build_blueprint(InMemoryStorage(), read_only=True)
    app.register_blueprint(blueprint, url_prefix="/s")
    response = TestApp(app).get("/s/__ds/jwks.json", status="*")
    assert response.status_int == 404
    blueprint.streams.stop()


def test_an_embedded_blueprint_serves_subscriptions(open_server: OpenSubscribed) -> None:
    server = open_server(embedded=True)
    server.subscribe()
    server.create("events/a", 1)
    assert len(server.wake_events()) == 1
    assert server.ack(server.claim()).json == {"ok": True, "next_wake": False}
