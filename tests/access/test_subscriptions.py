"""Access control below `__ds`: the APIs of subscriptions need admin, and tokens of wakes are none of the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from durable_streams.access import SCOPES
from durable_streams.config import Config
from durable_streams.web.subscriptions.routes import SubscriptionRoutes
from tests.access.conftest import MakeToken
from tests.subscriptions.driving import Subscribed, delivery, until
from tests.subscriptions.receiver import Receiver, answer
from tests.web.driving import JSON, TEXT, Headers

SUB = "subscriptions/sub-1"
CONFIG = {"type": "pull-wake", "pattern": "events/*", "wake_stream": "wake/pool"}

# operation, method, what is below `__ds`, document
GUARDED: list[tuple[str, str, str, object]] = [
    ("list-subscriptions", "GET", "subscriptions", None),
    ("get-subscription", "GET", SUB, None),
    ("put-subscription", "PUT", SUB, CONFIG),
    ("delete-subscription", "DELETE", SUB, None),
    ("add-streams", "POST", f"{SUB}/streams", {"streams": ["other"]}),
    ("remove-stream", "DELETE", f"{SUB}/streams/other", None),
    ("claim", "POST", f"{SUB}/claim", {"worker": "worker-1"}),
    ("rotate-key", "POST", "keys", None),
]
OPEN: list[tuple[str, str, str, object]] = [
    ("jwks", "GET", "jwks.json", None),
    ("ack", "POST", f"{SUB}/ack", {}),
    ("callback", "POST", f"{SUB}/callback", {}),
    ("release", "POST", f"{SUB}/release", {}),
]


class Guarded(Subscribed):
    """A server with subscriptions and access control; requests carry ``token``, unless they have one of their own."""

    token: str | None = None

    def request(
        self, method: str, target: str, body: bytes = b"", headers: Headers | None = None, **environ: Any
    ) -> Any:
        sent = {"Authorization": f"Bearer {self.token}"} if self.token is not None else {}
        return super().request(method, target, body, sent | (headers or {}), **environ)


@pytest.fixture
def server(make_token: MakeToken, path: Path) -> Iterator[Guarded]:
    """With one subscription, and a token that may do everything."""
    token = make_token(" ".join(SCOPES), name="everything")
    server = Guarded(
        auth={"mode": "tokens", "tokens_path": str(path)},
        # Access control is what opens claims here.
        subscriptions={"allow_open_claims": False},
    )
    server.token = token
    server.subscribe()
    yield server
    server.close()


def ask(server: Guarded, token: str | None, method: str, target: str, document: object) -> Any:
    server.token = None
    _look(server)
    return server.ask(method, target, document, token)


def _look(server: Guarded) -> None:
    """The server notices the newest tokens."""
    for gate in server.flask.before_request_funcs[None][0].__closure__[0].cell_contents.gates:  # type: ignore[index]
        gate._grant_of.__self__.look()


def ids(rows: list[tuple[str, str, str, object]]) -> list[str]:
    return [row[0] for row in rows]


def test_the_tables_have_every_operation(server: Guarded) -> None:
    routes = SubscriptionRoutes(server.subscriptions, Config(), "/v1/stream", gated=True)
    tables = [*routes._top.values(), routes._one, *routes._below.values(), routes._link]
    operations = {operation for table in tables for operation, _ in table.values()}
    assert operations == set(ids(GUARDED)) | set(ids(OPEN))


@pytest.mark.parametrize(("operation", "method", "target", "document"), GUARDED, ids=ids(GUARDED))
@pytest.mark.parametrize("scope", SCOPES)
def test_admin_and_nothing_else_opens_the_apis(
    server: Guarded,
    make_token: MakeToken,
    operation: str,
    method: str,
    target: str,
    document: object,
    scope: str,
) -> None:
    response = ask(server, make_token(scope), method, target, document)
    if scope == "admin":
        assert response.status_int not in (401, 403)
        return
    assert response.status_int == 403
    assert response.content_type == "application/json"
    assert response.json["error"]["code"] == "FORBIDDEN"
    assert 'scope="admin"' in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize(("operation", "method", "target", "document"), GUARDED, ids=ids(GUARDED))
def test_without_a_valid_token_the_apis_are_closed(
    server: Guarded, operation: str, method: str, target: str, document: object
) -> None:
    for token in (None, "wrong"):
        response = ask(server, token, method, target, document)
        assert response.status_int == 401
        assert response.json["error"]["code"] == "UNAUTHORIZED"
        assert response.headers["WWW-Authenticate"].startswith('Bearer realm="durable-streams"')


@pytest.mark.parametrize(("operation", "method", "target", "document"), GUARDED, ids=ids(GUARDED))
def test_a_narrow_admin_is_none(
    server: Guarded, make_token: MakeToken, operation: str, method: str, target: str, document: object
) -> None:
    """A subscription can name any stream, so a token for some streams must not reach one."""
    token = make_token(" ".join(SCOPES), "events/**", "sub-1", "subscriptions/**")
    assert ask(server, token, method, target, document).status_int == 403


def test_a_refusal_says_nothing_of_subscriptions(server: Guarded, make_token: MakeToken) -> None:
    token = make_token("read write create delete")
    texts = set()
    for sub in ("sub-1", "missing", "strange:id"):
        response = ask(server, token, "GET", f"subscriptions/{sub}", None)
        texts.add((response.status_int, response.text.replace(sub, "SUB")))
    assert len(texts) == 1


@pytest.mark.parametrize(("operation", "method", "target", "document"), OPEN, ids=ids(OPEN))
def test_what_is_public_or_has_a_token_of_a_wake_needs_none_of_the_server(
    server: Guarded, operation: str, method: str, target: str, document: object
) -> None:
    response = ask(server, None, method, target, document)
    if operation == "jwks":
        assert response.status_int == 200
        return
    # Refused by its own rule, which asks for the token of the wake.
    assert response.status_int == 401
    assert response.json["error"]["code"] == "TOKEN_INVALID"


@pytest.mark.parametrize("operation", ["ack", "callback", "release"])
def test_a_token_of_the_server_is_none_of_a_wake(
    server: Guarded, make_token: MakeToken, operation: str
) -> None:
    server.create("events/a", 1)
    told = server.claim()
    document = {"wake_id": told["wake_id"], "generation": told["generation"], "done": True}
    response = ask(server, make_token("admin"), "POST", f"{SUB}/{operation}", document)
    assert (response.status_int, response.json["error"]["code"]) == (401, "TOKEN_INVALID")


def test_a_token_of_a_wake_is_none_of_the_server(server: Guarded) -> None:
    server.create("events/a", 1)
    wake_token = server.claim()["token"]
    for method, target, body, headers in (
        ("GET", "events/a?offset=-1", b"", {}),
        ("POST", "events/a", b"1", JSON),
        ("DELETE", "events/a", b"", {}),
        ("GET", "__ds/subscriptions", b"", {}),
    ):
        sent = {"Authorization": f"Bearer {wake_token}"} | headers
        assert server.request(method, target, body, sent).status_int == 401


def test_a_worker_lives_on_a_token_for_claims_and_those_of_its_wakes(
    server: Guarded, make_token: MakeToken
) -> None:
    tail = server.create("events/a", 1)
    claimed = ask(server, make_token("admin", name="worker"), "POST", f"{SUB}/claim", {"worker": "w"}).json
    document = {
        "wake_id": claimed["wake_id"],
        "generation": claimed["generation"],
        "acks": [{"stream": "events/a", "offset": tail}],
        "done": True,
    }
    acked = ask(server, claimed["token"], "POST", f"{SUB}/ack", document)
    assert acked.status_int == 200
    assert server.tracked().sub.links["events/a"].position > 0


def test_a_webhook_calls_back_without_a_token_of_the_server(server: Guarded) -> None:
    with Receiver(answer({})) as receiver:
        server.subscribe("hook", webhook={"url": receiver.url}, streams=["hooked"])
        tail = server.create("hooked", 1)
        told = delivery(receiver).document
        server.token = None
        target = urlsplit(told["callback_url"]).path
        document = {
            "wake_id": told["wake_id"],
            "generation": told["generation"],
            "acks": [{"stream": "hooked", "offset": tail}],
            "done": True,
        }
        headers = JSON | {"Authorization": f"Bearer {told['callback_token']}"}
        assert server.request("POST", target, json.dumps(document).encode(), headers).status_int == 200
        until(lambda: not server.tracked("hook").behind, "the ack")


def test_streams_of_the_server_itself_are_out_of_reach(server: Guarded) -> None:
    """Not even a token for everything reads what subscriptions are kept in."""
    for name in ("__ds/subscriptions/sub-1/history", "__ds", "__ds/", "__ds/leases/dispatcher", "%5f%5fds/x"):
        for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
            assert server.request(method, name, b"", TEXT).status_int in (400, 404, 405), (method, name)
