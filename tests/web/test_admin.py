"""The admin API: every stream in pages, the details of one, close and delete, and what the server does now."""

from __future__ import annotations

import json
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest

from durable_streams.admin import inventory, removing, turns
from durable_streams.config import SETTINGS
from durable_streams.eventloop import connections
from durable_streams.protocol.errors import StorageFull, StreamDamaged
from durable_streams.storage.memory import InMemoryStorage
from tests.web.conftest import OpenServer
from tests.web.driving import CLOSE, JSON, TEXT, Server

ENABLED = {"enabled": True}
EVERY_ROUTE = [
    ("GET", "/admin/server"),
    ("GET", "/admin/streams"),
    ("DELETE", "/admin/streams?prefix=s"),
    ("GET", "/admin/streams/s"),
    ("PATCH", "/admin/streams/s"),
    ("DELETE", "/admin/streams/s"),
    ("GET", "/admin/producers/s"),
    ("GET", "/admin/forks/s"),
    ("GET", "/admin/offsets/s?position=0"),
]


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    return open_server(admin=ENABLED)


def ask(server: Server, target: str) -> Any:
    response = server.get(target)
    assert response.status_int == 200, response.text
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    return response.json


def names(server: Server, target: str = "/admin/streams") -> list[str]:
    return [stream["name"] for stream in ask(server, target)["streams"]]


def problem(response: Any) -> tuple[int, str]:
    assert response.content_type == "application/problem+json"
    return response.status_int, response.json["code"]


# -- lists --------------------------------------------------------------------------------------------------------


def test_streams_are_listed_by_prefix_in_pages(server: Server) -> None:
    for name in ("b/2", "a", "b/1", "b", "b/\u00fc", "c"):
        server.put(quote(name), b"x", TEXT)
    assert names(server) == ["a", "b", "b/1", "b/2", "b/\u00fc", "c"]
    first = ask(server, "/admin/streams?prefix=b/&limit=2")
    assert [stream["name"] for stream in first["streams"]] == ["b/1", "b/2"]
    assert first["next"] == "b/2"
    last = ask(server, "/admin/streams?prefix=b/&limit=2&after=" + quote(first["next"], safe=""))
    assert [stream["name"] for stream in last["streams"]] == ["b/\u00fc"]
    assert last["next"] is None


def test_a_full_last_page_has_no_next(server: Server) -> None:
    server.put("a", b"x", TEXT)
    assert ask(server, "/admin/streams?limit=1")["next"] is None


def test_a_list_tells_what_a_stream_is(server: Server) -> None:
    server.put("s", b'[{"a":1},2]', JSON | {"Stream-TTL": "60"})
    (stream,) = ask(server, "/admin/streams")["streams"]
    assert stream == {
        "name": "s",
        "content_type": "application/json",
        "bytes": 10,
        "own_bytes": 10,
        "messages": 2,
        "offset": server.tail("s"),
        "created_at": "2027-01-15T08:00:00.000Z",
        "touched_at": "2027-01-15T08:00:00.000Z",
        "ttl_secs": 60,
        "expires_at": None,
        "closed": False,
        "deleted": False,
        "forks": 0,
        "producers": 0,
        "live_readers": 0,
        "forked_from": None,
    }


def test_messages_are_those_of_json_streams_and_of_their_sources(server: Server) -> None:
    server.put("s", b"[1,2,3]", JSON)
    server.put("fork", b"", JSON | {"Stream-Forked-From": "/v1/stream/s"})
    server.post("fork", b"[4]", JSON)
    server.put("text", b"one\ntwo\n", TEXT)
    found = {stream["name"]: stream["messages"] for stream in ask(server, "/admin/streams")["streams"]}
    assert found == {"s": 3, "fork": 4, "text": None}


def test_a_list_counts_no_more_messages_than_it_may(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "COUNTED_IN_LIST_BYTES", 10)
    monkeypatch.setattr(inventory, "COUNTED_PER_LIST_BYTES", 25)
    monkeypatch.setattr(inventory, "COUNTED_IN_DETAILS_BYTES", 10)
    for name in ("a", "b", "c"):
        server.put(name, b"[1,2,3,4,5]", JSON)
    server.put("long", b"[1,2,3,4,5,6]", JSON)
    found = {stream["name"]: stream["messages"] for stream in ask(server, "/admin/streams")["streams"]}
    assert found == {"a": 5, "b": 5, "c": None, "long": None}
    assert ask(server, "/admin/streams/long")["messages"] is None
    assert ask(server, "/admin/streams/long?messages=all")["messages"] == 6


def test_internal_and_expired_streams_are_not_listed_and_deleted_ones_are(server: Server) -> None:
    server.put("__ds/subscriptions/x", b'{"type":"pull-wake","wake_stream":"w"}', JSON)
    server.put("short", b"x", TEXT | {"Stream-TTL": "5"})
    server.put("source", b"x", TEXT)
    server.put("fork", b"", TEXT | {"Stream-Forked-From": "/v1/stream/source"})
    server.delete("source")
    server.clock.now += 10
    found = {stream["name"]: stream for stream in ask(server, "/admin/streams")["streams"]}
    assert "short" not in found
    assert not [name for name in found if name.startswith("__ds")]
    assert found["source"]["deleted"] is True
    assert found["source"]["forks"] == 1
    assert found["fork"]["forked_from"] == {"name": "source", "position": 1}
    assert found["fork"]["own_bytes"] == 0


def test_a_damaged_stream_is_listed_with_the_reason(open_server: OpenServer) -> None:
    class Damaged(InMemoryStorage):
        def known(self, name: str) -> Any:
            if name == "bad":
                raise StreamDamaged("its row has a wrong checksum")
            return super().known(name)

    storage = Damaged()
    server = open_server(storage, admin=ENABLED)
    server.put("good", b"x", TEXT)
    storage._names.add("bad")
    assert ask(server, "/admin/streams")["streams"][0] == {
        "name": "bad",
        "damaged": "its row has a wrong checksum",
    }
    assert server.get("/admin/streams/bad").status_int == 500
    assert names(server) == ["bad", "good"]


def test_many_streams_are_listed_and_counted(server: Server) -> None:
    for number in range(5000):
        server.put(f"n/{number:05}", b"x", TEXT)
    found: list[str] = []
    after = ""
    while after is not None:
        page = ask(server, f"/admin/streams?prefix=n/&limit=1000&after={after}")
        found += [stream["name"] for stream in page["streams"]]
        after = page["next"]
    assert found == [f"n/{number:05}" for number in range(5000)]


# -- one stream ---------------------------------------------------------------------------------------------------


def test_details_tell_who_closed_a_stream_and_who_reads(server: Server) -> None:
    server.put("s", b"x", TEXT | {"Stream-Seq": "7"})
    reader = server.reading("s?offset=-1&live=sse")
    assert ask(server, "/admin/streams/s")["live_readers"] == 1
    reader.leave()
    producer = {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": "0"}
    server.post("s", b"y", TEXT | CLOSE | producer)
    found = ask(server, "/admin/streams/s")
    assert found["closed_by"] == {"producer": "p", "epoch": 0, "seq": 0}
    assert (found["closed"], found["producers"], found["live_readers"]) == (True, 1, 0)


def test_producers_come_in_pages_in_the_order_of_their_ids(server: Server) -> None:
    server.put("s", b"", TEXT)
    for number in range(120):
        producer = {"Producer-Id": f"p{number:03}", "Producer-Epoch": "2", "Producer-Seq": "0"}
        server.post("s", b"x", TEXT | producer)
    page = ask(server, "/admin/producers/s?limit=100")
    assert [found["id"] for found in page["producers"]] == [f"p{number:03}" for number in range(100)]
    assert page["producers"][0] == {"id": "p000", "epoch": 2, "seq": 0, "seen_at": "2027-01-15T08:00:00.000Z"}
    rest = ask(server, f"/admin/producers/s?limit=100&after={page['next']}")
    assert len(rest["producers"]) == 20
    assert rest["next"] is None


def test_forks_come_in_pages_with_what_they_are(server: Server) -> None:
    server.put("s", b"abc", TEXT)
    for number in range(5):
        server.put(f"f{number}", b"x", TEXT | {"Stream-Forked-From": "/v1/stream/s"})
    server.put("f0/below", b"", TEXT | {"Stream-Forked-From": "/v1/stream/f0"})
    page = ask(server, "/admin/forks/s?limit=3")
    assert [(fork["name"], fork["forks"]) for fork in page["forks"]] == [("f0", 1), ("f1", 0), ("f2", 0)]
    assert [fork["name"] for fork in ask(server, f"/admin/forks/s?after={page['next']}")["forks"]] == [
        "f3",
        "f4",
    ]


@pytest.mark.parametrize(
    ("content", "body", "position", "expected"),
    [
        (JSON, b'["aaaa","bb","c"]', 0, 0),
        (JSON, b'["aaaa","bb","c"]', 1, 7),
        (JSON, b'["aaaa","bb","c"]', 7, 7),
        (JSON, b'["aaaa","bb","c"]', 8, 12),
        (JSON, b'["aaaa","bb","c"]', 13, 16),
        (JSON, b'["aaaa","bb","c"]', 10**15, 16),
        (TEXT, "a\u00fc\U0001f600z".encode(), 2, 3),
        (TEXT, "a\u00fc\U0001f600z".encode(), 4, 7),
        (TEXT, "a\u00fc\U0001f600z".encode(), 3, 3),
        ({"Content-Type": "image/png"}, b"\x80\x80\x80", 1, 1),
    ],
)
def test_an_offset_is_that_of_the_next_whole_message_or_character(
    server: Server, content: dict[str, str], body: bytes, position: int, expected: int
) -> None:
    server.put("s", body, content)
    found = ask(server, f"/admin/offsets/s?position={position}")
    assert found == {"position": expected, "offset": server.offset("s", expected)}
    assert server.get(f"s?offset={found['offset']}").status_int == 200


def test_names_of_any_characters_are_found(server: Server) -> None:
    for name in ("a/b c", "\u00fc/\U0001f600", "x\ny", "a%2Fb", "q?=&#"):
        target = quote(name, safe="/")
        assert server.put(target, b"x", TEXT).status_int == 201
        assert ask(server, f"/admin/streams/{target}")["name"] == name
        assert server.delete(f"/admin/streams/{target}").status_int == 204
    assert names(server) == []


# -- changing -----------------------------------------------------------------------------------------------------


def test_a_stream_is_closed_and_deleted(server: Server) -> None:
    server.put("s", b"x", TEXT)
    for _ in range(2):
        response = server.request("PATCH", "/admin/streams/s", b'{"closed":true}', JSON)
        assert (response.status_int, response.json["closed"]) == (200, True)
    assert server.post("s", b"y", TEXT).status_int == 409
    assert server.delete("/admin/streams/s").status_int == 204
    assert server.delete("/admin/streams/s").status_int == 404
    assert server.head("s").status_int == 404


@pytest.mark.parametrize(
    "body", [b"{}", b'{"closed":false}', b'{"closed":true,"x":1}', b"[]", b"no", b'{"closed":1.5}']
)
def test_nothing_else_can_be_changed(server: Server, body: bytes) -> None:
    server.put("s", b"x", TEXT)
    assert server.request("PATCH", "/admin/streams/s", body, JSON).status_int == 400
    assert ask(server, "/admin/streams/s")["closed"] is False


def test_a_prefix_is_counted_first_and_deleted_with_that_number(server: Server) -> None:
    for name in ("a/1", "a/2", "a/3", "b"):
        server.put(name, b"xy", TEXT)
    dry = server.delete("/admin/streams?prefix=a/").json
    assert dry == {"prefix": "a/", "dry_run": True, "matched": 3, "bytes": 6, "more": False}
    assert len(names(server)) == 4
    assert problem(server.delete("/admin/streams?prefix=a/&confirm=2")) == (409, "COUNT_CHANGED")
    assert len(names(server)) == 4
    done = server.delete("/admin/streams?prefix=a/&confirm=3").json
    assert (done["dry_run"], done["deleted"], done["failed"]) == (False, 3, {})
    assert names(server) == ["b"]


def test_sources_of_forks_are_deleted_for_clients_and_counted_once(server: Server) -> None:
    server.put("a/source", b"xy", TEXT)
    server.put("fork", b"", TEXT | {"Stream-Forked-From": "/v1/stream/a/source"})
    assert server.delete("/admin/streams?prefix=a/&confirm=1").json["deleted"] == 1
    assert server.head("a/source").status_int == 410
    assert server.get("fork?offset=-1").body == b"xy"
    assert server.delete("/admin/streams?prefix=a/").json["matched"] == 0


def test_one_deletion_takes_a_limited_number(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing, "MATCHED_MAX", 3)
    for number in range(5):
        server.put(f"a/{number}", b"x", TEXT)
    assert server.delete("/admin/streams?prefix=a/").json["more"] is True
    assert server.delete("/admin/streams?prefix=a/&confirm=3").json["deleted"] == 3
    assert names(server) == ["a/3", "a/4"]


def test_a_long_count_yields_to_the_loop(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        server.put(f"a/{number:02}", b"x", TEXT)
    seconds, yields = count(), []
    monkeypatch.setattr(removing, "NAMES_AT_ONCE", 2)
    monkeypatch.setattr(turns, "monotonic", lambda: next(seconds) * turns.TURN_S / 8)
    monkeypatch.setattr(turns, "yield_to_loop", lambda: yields.append(1))
    assert server.delete("/admin/streams?prefix=a/").json["matched"] == 100
    assert len(yields) >= 10


def test_what_could_not_be_deleted_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1", "a/2"):
        server.put(name, b"x", TEXT)
    remove = server.store.remove

    def full(name: str) -> Any:
        if name == "a/1":
            raise StorageFull("no room")
        return remove(name)

    monkeypatch.setattr(server.store, "remove", full)
    done = server.delete("/admin/streams?prefix=a/&confirm=2").json
    assert done["deleted"] == 1
    assert list(done["failed"]) == ["a/1"]
    assert names(server) == ["a/1"]


# -- the server ---------------------------------------------------------------------------------------------------


def test_the_server_tells_what_it_does_now(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # A worker that another test has made in this process may still be counting.
    monkeypatch.setattr(connections, "_counters", [])
    assert ask(server, "/admin/server")["connections"]["now"] is None
    connections.count_by(lambda: 3)
    reader = server.reading("s?offset=-1&live=sse")
    server.put("s", b"xyz", TEXT)
    server.post("s", b"x", TEXT)
    reader = server.reading("s?offset=-1&live=long-poll&cursor=1")
    found = ask(server, "/admin/server")
    assert found["mode"] == "memory"
    assert found["ready"] is True
    memory = found["queues"]["memory_bytes"]
    assert memory == {"now": server.store.writes.budget.total, "limit": 100 * 1024 * 1024}
    assert memory["now"] > 4
    assert found["queues"]["pending_writes"] == {"now": 0, "limit": 4096}
    assert found["committed"]["changes"] == 2
    assert found["committed"]["bytes"] == 4
    assert found["committed"]["created"] == 1
    assert found["connections"] == {"now": 3, "limit": 16_384}
    assert found["storage"] == {"streams": 1}
    assert set(found["settings"]) == set(SETTINGS)
    reader.leave()


def test_secrets_are_masked(open_server: OpenServer) -> None:
    server = open_server(admin=ENABLED, postgres={"dsn": "postgresql://u:hunter2@h/d"})
    assert "hunter2" not in server.get("/admin/server").text


def test_metrics_and_the_admin_api_count_the_same(open_server: OpenServer) -> None:
    server = open_server(admin=ENABLED, metrics=ENABLED)
    server.put("s", b"xyz", TEXT)
    assert ask(server, "/admin/server")["committed"]["bytes"] == 3
    assert "durable_streams_appended_bytes_total 3.0" in server.get("/metrics").text


# -- who may ask, and how -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "target"), EVERY_ROUTE)
def test_it_is_off_by_default(open_server: OpenServer, method: str, target: str) -> None:
    assert open_server().request(method, target).status_int == 404


@pytest.mark.parametrize(("method", "target"), EVERY_ROUTE)
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4437", "localhost.evil.example", "10.0.0.1", ""]
)
def test_without_access_control_only_localhost_is_answered(
    server: Server, method: str, target: str, host: str
) -> None:
    server.put("s", b"x", TEXT)
    response = server.request(method, target, b'{"closed":true}', JSON | {"Host": host})
    assert problem(response) == (403, "FOREIGN_HOST")
    assert server.head("s").headers.get("Stream-Closed") is None


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1:4437", "[::1]:4437", "a.localhost"])
def test_every_name_of_this_machine_is_answered(server: Server, host: str) -> None:
    assert server.get("/admin/streams", {"Host": host}).status_int == 200


@pytest.mark.parametrize(("method", "target"), [row for row in EVERY_ROUTE if row[0] != "GET"])
def test_a_page_of_another_origin_changes_nothing(server: Server, method: str, target: str) -> None:
    server.put("s", b"x", TEXT)
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        response = server.request(method, target, b'{"closed":true}', JSON | {"Origin": origin})
        assert problem(response) == (403, "CROSS_ORIGIN_WRITE")
    assert ask(server, "/admin/streams/s")["closed"] is False
    same = server.request(method, target, b'{"closed":true}', JSON | {"Origin": "http://localhost:80"})
    assert same.status_int in (200, 204)


@pytest.mark.parametrize(("method", "target"), EVERY_ROUTE)
def test_no_page_of_another_origin_can_read_it(server: Server, method: str, target: str) -> None:
    server.put("s", b"x", TEXT)
    for asked in (method, "OPTIONS"):
        headers = server.request(asked, target, b'{"closed":true}', JSON).headers
        assert not [name for name in headers if name.lower().startswith("access-control")]
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    "target",
    [
        "/admin/streams?limit=0",
        "/admin/streams?limit=1001",
        "/admin/streams?limit=-1",
        "/admin/streams?limit=x",
        "/admin/streams?limit=" + "9" * 40,
        "/admin/streams?limit=%D9%A3",
        "/admin/streams?limit=1&limit=2",
        "/admin/streams?lmit=1",
        "/admin/streams?prefix=%FF",
        "/admin/streams/s?messages=some",
        "/admin/streams/s?x=1",
        "/admin/streams/",
        "/admin/streams/a//b",
        "/admin/streams/%FF",
        "/admin/offsets/s",
        "/admin/offsets/s?position=-1",
        "/admin/server?x=1",
    ],
)
def test_bad_questions_are_refused(server: Server, target: str) -> None:
    server.put("s", b"x", TEXT)
    assert server.get(target).status_int == 400
    assert server.get(target).content_type == "application/problem+json"


@pytest.mark.parametrize(
    "query", ["", "?prefix=", "?prefix=a&confirm=x", "?prefix=a&dry_run=false", "?confirm=1"]
)
def test_bad_deletions_delete_nothing(server: Server, query: str) -> None:
    server.put("a", b"x", TEXT)
    assert server.delete(f"/admin/streams{query}").status_int == 400
    assert names(server) == ["a"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/admin/streams/{}"),
        ("PATCH", "/admin/streams/{}"),
        ("DELETE", "/admin/streams/{}"),
        ("GET", "/admin/producers/{}"),
        ("GET", "/admin/forks/{}"),
        ("GET", "/admin/offsets/{}?position=0"),
    ],
)
@pytest.mark.parametrize("name", ["none", "__ds", "__ds/subscriptions/x"])
def test_a_stream_that_is_not_there_is_404(server: Server, method: str, target: str, name: str) -> None:
    server.put("__ds/subscriptions/x", b'{"type":"pull-wake","wake_stream":"w"}', JSON)
    response = server.request(method, target.format(name), b'{"closed":true}', JSON)
    assert problem(response) == (404, "NOT_FOUND")


def test_other_methods_are_refused(server: Server) -> None:
    assert problem(server.post("/admin/streams", b"{}", JSON)) == (405, "METHOD_NOT_ALLOWED")
    assert json.loads(server.put("/admin/streams/s", b"x", TEXT).body)["status"] == 405


@pytest.mark.parametrize("base", ["/", "/admin"])
def test_it_is_served_whatever_the_base_path_is(open_server: OpenServer, base: str) -> None:
    server = open_server(admin=ENABLED, http={"stream_base_path": base})
    assert names(server) == []
