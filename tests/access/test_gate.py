"""Who may do what: each operation with each scope, refusals that say nothing of streams, caches, ends of live reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import time

import gevent
import pytest

from durable_streams.access import SCOPES, TokenFile, TokenFileDamaged
from durable_streams.access.gate import NEEDED, AccessGate
from durable_streams.access.token_file import changing
from durable_streams.web.exchange import Exchange, LiveEnd
from tests.access.conftest import MakeToken
from tests.web.driving import PATIENCE_S, TEXT, Headers, Server

Guarded = Callable[..., Server]

# operation, method, target, headers, the scope that it needs
OPERATIONS: list[tuple[str, str, str, Headers, str]] = [
    ("create", "PUT", "a/new", TEXT, "create"),
    ("append", "POST", "a/b", TEXT, "write"),
    ("close", "POST", "a/b", {"Stream-Closed": "true"}, "write"),
    ("read", "GET", "a/b?offset=-1", {}, "read"),
    ("poll", "GET", "a/b?offset=-1&live=long-poll", {}, "read"),
    ("subscribe", "GET", "a/closed?offset=-1&live=sse", {}, "read"),
    ("head", "HEAD", "a/b", {}, "read"),
    ("delete", "DELETE", "a/b", {}, "delete"),
    ("metrics", "GET", "/metrics", {}, "admin"),
    ("admin list", "GET", "/admin/streams", {}, "admin"),
    ("admin delete", "DELETE", "/admin/streams/a/b", {}, "admin"),
    ("admin delete by prefix", "DELETE", "/admin/streams?prefix=a", {}, "admin"),
    ("subscriptions", "GET", "__ds/subscriptions", {}, "admin"),
    ("new subscription", "PUT", "__ds/subscriptions/s", {}, "admin"),
]
IDS = [row[0] for row in OPERATIONS]


def bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def server(open_guarded: Guarded, make_token: MakeToken) -> Server:
    setup = bearer(make_token("create write", name="setup"))
    server = open_guarded(metrics={"enabled": True}, admin={"enabled": True})
    assert server.put("a/b", b"x", TEXT | setup).status_int == 201
    assert server.put("a/closed", b"x", {**TEXT, **setup, "Stream-Closed": "true"}).status_int == 201
    return server


def looked(server: Server) -> Server:
    """The server, which has noticed the newest tokens."""
    for gate in server.flask.before_request_funcs[None][0].__closure__[0].cell_contents.gates:  # type: ignore[index]
        gate._grant_of.__self__.look()
    return server


def revoke(server: Server, path: Path, name: str) -> None:
    """End a token, which the server has noticed."""
    with changing(path) as records:
        records[:] = [record for record in records if record.name != name]
    looked(server)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("operation", "method", "target", "headers", "needed"), OPERATIONS, ids=IDS)
def test_each_operation_needs_its_scope_and_no_other_helps(
    server: Server,
    make_token: MakeToken,
    operation: str,
    method: str,
    target: str,
    headers: Headers,
    needed: str,
    scope: str,
) -> None:
    token = make_token(scope)
    body = b"x" if headers == TEXT else b""
    response = looked(server).request(method, target, body, headers | bearer(token))
    if scope == needed:
        assert response.status_int not in (401, 403)
        return
    assert response.status_int == 403
    assert f'error="insufficient_scope", scope="{needed}"' in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize(("operation", "method", "target", "headers", "needed"), OPERATIONS, ids=IDS)
@pytest.mark.parametrize(
    "header",
    [{}, {"Authorization": "Basic dXNlcjpwYXNz"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer  "}],
    ids=["no header", "Basic", "no token", "blanks"],
)
def test_without_a_token_everything_is_401(
    server: Server, operation: str, method: str, target: str, headers: Headers, needed: str, header: Headers
) -> None:
    response = server.request(method, target, b"", headers | header)
    assert response.status_int == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="durable-streams"'
    if method != "HEAD":
        assert "json" in response.content_type


def test_an_unknown_token_is_401_and_says_so(server: Server, make_token: MakeToken) -> None:
    good = make_token("read")
    looked(server)
    for wrong in (
        good[:-1],
        good + "x",
        good.swapcase(),
        "dst_",
        "dst__",
        "x",
        good.partition("_")[2],
        "\xe4",
    ):
        response = server.get("a/b?offset=-1", bearer(wrong))
        assert response.status_int == 401
        assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
    assert server.get("a/b?offset=-1", bearer(good)).status_int == 200
    assert server.get("a/b?offset=-1", {"Authorization": f"bearer {good}"}).status_int == 200


def test_probes_the_first_page_the_preflight_and_unknown_paths_are_open(server: Server) -> None:
    assert server.get("/healthz").status_int == server.get("/readyz").status_int == 200
    assert server.get("/").status_int == 200
    assert server.request("OPTIONS", "a/b").status_int == 204
    assert server.get("/nowhere").status_int == 404
    assert server.get("__ds/jwks.json").status_int != 401


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
def test_a_refusal_is_the_same_whether_the_stream_exists(
    server: Server, make_token: MakeToken, method: str
) -> None:
    token = make_token(" ".join(set(SCOPES) - {"admin"}), "elsewhere/**")
    looked(server)
    answers = []
    for name in ("a/b", "a/missing", "a/closed"):
        response = server.request(method, name, b"", TEXT | bearer(token))
        assert response.status_int == 403
        answers.append((response.headers, response.text.replace(name, "NAME")))
    headers = [sorted(answer[0].items()) for answer in answers]
    lengths = {("Content-Length", value) for value in ("", *map(str, range(1000)))}
    assert len({json.dumps([pair for pair in each if tuple(pair) not in lengths]) for each in headers}) == 1
    assert len({answer[1] for answer in answers}) == 1


@pytest.mark.parametrize(("operation", "method", "target", "headers", "needed"), OPERATIONS[:8], ids=IDS[:8])
def test_all_other_scopes_of_a_name_do_not_tell_whether_it_exists(
    server: Server,
    make_token: MakeToken,
    operation: str,
    method: str,
    target: str,
    headers: Headers,
    needed: str,
) -> None:
    token = bearer(make_token(" ".join(set(SCOPES) - {needed}), "**"))
    looked(server)
    query = target.partition("?")[2]
    answers = set()
    for name in ("a/b", "a/c"):
        response = server.request(method, f"{name}?{query}", b"", headers | token)
        answers.add((response.status_int, response.text.replace(name, "NAME")))
    assert {status for status, _ in answers} == {403}
    assert len(answers) == 1


@pytest.mark.parametrize(("operation", "method", "target", "headers", "needed"), OPERATIONS, ids=IDS)
def test_no_answer_to_a_token_may_be_kept_by_a_shared_cache(
    server: Server,
    make_token: MakeToken,
    operation: str,
    method: str,
    target: str,
    headers: Headers,
    needed: str,
) -> None:
    token = bearer(make_token(needed))
    looked(server)
    body = b"x" if headers == TEXT else b""
    for asked in (headers | token, headers):
        caching = server.request(method, target, body, asked).headers.getall("Cache-Control")
        assert not [value for value in caching if "public" in value]
        # Without the header, only what is no read may be stored by nobody anyway.
        assert caching or method not in ("GET", "HEAD")


def test_patterns_are_over_segments_of_names(server: Server, make_token: MakeToken) -> None:
    token = bearer(make_token("create", "team-a/**", "shared/*"))
    looked(server)
    for name in ("team-a", "team-a/x", "team-a/x/y", "shared/x"):
        assert server.put(name, b"", TEXT | token).status_int == 201, name
    for name in ("team-ab", "team-b/x", "shared", "shared/x/y", "x/team-a"):
        assert server.put(name, b"", TEXT | token).status_int == 403, name


def test_a_fork_needs_read_on_its_source(server: Server, make_token: MakeToken) -> None:
    blind = bearer(make_token("create", "mine/**"))
    seeing = bearer(make_token("create read", "mine/**", "a/*"))
    looked(server)
    fork = {"Stream-Forked-From": "/v1/stream/a/b"}
    refused = server.put("mine/fork", b"", fork | blind)
    assert refused.status_int == 403
    assert 'scope="read"' in refused.headers["WWW-Authenticate"]
    assert server.put("mine/fork", b"", fork | seeing).status_int == 201


def test_reads_are_private_and_vary_or_are_not_stored(
    server: Server, open_guarded: Guarded, make_token: MakeToken, path: Path
) -> None:
    token = bearer(make_token("read"))
    response = looked(server).get("a/b?offset=-1", token)
    assert response.headers["Cache-Control"].startswith("private, ")
    assert "Authorization" in response.headers.getall("Vary")
    again = server.get("a/b?offset=-1", token | {"If-None-Match": response.headers["ETag"]})
    assert again.status_int == 304
    assert again.headers["Cache-Control"].startswith("private, ")
    strict = open_guarded(auth={"mode": "tokens", "tokens_path": str(path), "cache_control": "no-store"})
    setup = bearer(make_token("create", name="strict"))
    looked(strict).put("s", b"x", TEXT | setup)
    assert strict.get("s?offset=-1", token).headers["Cache-Control"] == "no-store"


def test_a_token_ends_at_its_time(make_token: MakeToken, path: Path) -> None:
    now = time()
    token = make_token("read", expires_at=now + 10)
    assert TokenFile(path, lambda: now + 9.9).grant_of(token) is not None
    assert TokenFile(path, lambda: now + 10).grant_of(token) is None


def test_the_file_has_no_token_and_a_changed_one_is_noticed(make_token: MakeToken, path: Path) -> None:
    tokens = TokenFile(path)
    token = make_token("read")
    assert token.rpartition("_")[2] not in path.read_text()
    assert path.stat().st_mode & 0o007 == 0, "others cannot read it"
    assert tokens.grant_of(token) is None
    tokens.look()
    assert tokens.grant_of(token) is not None
    path.unlink()
    tokens.look()
    assert tokens.grant_of(token) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 2, "tokens": []}', '{"version": 1, "tokens": [{"id": "x"}]}', "\xff"],
)
def test_a_damaged_file_is_refused_at_the_start_and_later_changes_nothing(
    make_token: MakeToken, path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = make_token("read")
    tokens = TokenFile(path)
    path.write_text(text, encoding="latin-1")
    tokens.look()
    assert tokens.grant_of(token) is not None
    assert "stay in force" in caplog.text
    with pytest.raises(TokenFileDamaged):
        TokenFile(path)


def test_an_event_stream_ends_when_its_token_expires(server: Server, make_token: MakeToken) -> None:
    token = bearer(make_token("read", expires_at=time() + 1))
    reader = looked(server).reading("a/b?offset=-1&live=sse", token)
    with gevent.Timeout(PATIENCE_S):
        kinds = [event.kind for event in reader.events()]
    assert kinds[:2] == ["data", "control"]
    assert server.get("a/b?offset=-1&live=sse", token).status_int == 401


def test_a_long_poll_is_answered_when_its_token_expires(server: Server, make_token: MakeToken) -> None:
    token = bearer(make_token("read", expires_at=time() + 1))
    reader = looked(server).reading("a/b?offset=now&live=long-poll", token)
    with gevent.Timeout(PATIENCE_S):
        assert reader.rest() == b""
    assert reader.status == 204


def test_an_event_stream_ends_at_the_heartbeat_after_its_token_was_revoked(
    open_guarded: Guarded, make_token: MakeToken, path: Path
) -> None:
    token = bearer(make_token("read create", name="one"))
    server = open_guarded(server={"sse_heartbeat_secs": 0.05})
    server.put("a", b"x", TEXT | token)
    reader = server.reading("a?offset=-1&live=sse", token)
    reader.caught_up()
    path.unlink()
    looked(server)
    with gevent.Timeout(PATIENCE_S):
        reader.rest()


def test_a_long_poll_is_answered_at_the_heartbeat_after_its_token_was_revoked(
    open_guarded: Guarded, make_token: MakeToken, path: Path
) -> None:
    token = bearer(make_token("read create", name="one"))
    server = open_guarded(server={"sse_heartbeat_secs": 0.05, "long_poll_timeout_secs": 3600.0})
    server.put("a", b"x", TEXT | token)
    reader = server.reading("a?offset=now&live=long-poll", token)
    path.unlink()
    looked(server)
    with gevent.Timeout(PATIENCE_S):
        assert reader.rest() == b""
    assert reader.status == 204


def test_a_long_poll_gives_nothing_that_came_after_its_token_was_revoked(
    open_guarded: Guarded, make_token: MakeToken, path: Path
) -> None:
    reading, writing = bearer(make_token("read", name="one")), bearer(make_token("create write", name="two"))
    server = open_guarded()
    created = server.put("a", b"x", TEXT | writing)
    reader = server.reading("a?offset=now&live=long-poll", reading)
    revoke(server, path, "one")
    server.post("a", b"secret", TEXT | writing)
    with gevent.Timeout(PATIENCE_S):
        assert reader.rest() == b""
    assert reader.status == 204
    assert reader.headers["Stream-Next-Offset"] == created.headers["Stream-Next-Offset"]


def test_the_end_of_access_is_a_reason_of_its_own() -> None:
    gate = AccessGate(lambda token: None)
    assert LiveEnd.ACCESS == "access ended"
    exchange = Exchange({"HTTP_AUTHORIZATION": "Bearer x"}, "a", "read")
    with pytest.raises(Exception, match="unknown, revoked or expired"):
        gate(exchange)
    assert exchange.principal is None


def test_each_operation_of_streams_has_its_scope() -> None:
    from durable_streams.web import stream_routes

    operations = {
        getattr(stream_routes, name)
        for name in ("CREATE", "APPEND", "READ", "POLL", "SUBSCRIBE", "HEAD", "DELETE")
    }
    assert operations == NEEDED.keys()


def test_a_blueprint_obeys_the_setting_too(make_token: MakeToken, path: Path) -> None:
    from durable_streams.config import Config
    from durable_streams.storage.memory import InMemoryStorage

    token = bearer(make_token("create read"))
    config = Config.model_validate(
        {"log": {"rust_log": "off"}, "auth": {"mode": "tokens", "tokens_path": str(path)}}
    )
    from flask import Flask

    from durable_streams import build_blueprint

    app = Flask("theirs")
    app.register_blueprint(build_blueprint(InMemoryStorage(), config), url_prefix="/s")
    client = app.test_client()
    assert client.put("/s/a", data=b"x", content_type="text/plain").status_code == 401
    assert client.put("/s/a", data=b"x", content_type="text/plain", headers=token).status_code == 201
    read = client.get("/s/a?offset=-1", headers=token)
    assert read.data == b"x"
    assert read.headers["Cache-Control"].startswith("private")
