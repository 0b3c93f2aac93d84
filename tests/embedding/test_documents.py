"""docs/embedding.md names all that there is, and its blocks run."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from webtest import TestApp

from durable_streams import build_blueprint
from durable_streams.embedding import Streams
from durable_streams.web.exchange import Exchange, LiveEnd
from durable_streams.web.stream_routes import StreamRoutes
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
METHODS = [name for name in vars(Streams) if not name.startswith("_")]


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the blocks of the page define, run one after the other as a reader would."""
    program = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    found: dict[str, Any] = {"__name__": "page"}
    exec(compile(program, "docs/embedding.md", "exec"), found)
    return found


def test_the_gates_of_the_page_guard_what_they_say(names: dict[str, Any]) -> None:
    app = names["guarded"]

    @app.post("/sign-in/<user>")
    def sign_in(user: str) -> str:
        names["session"]["user"] = user
        return user

    text = {"Content-Type": "text/plain"}
    ada, bob = TestApp(app), TestApp(app)
    assert ada.put("/streams/users/ada/s", headers=text, status=401).headers["WWW-Authenticate"] == "Session"
    ada.post("/sign-in/ada")
    bob.post("/sign-in/bob")
    assert ada.put("/streams/users/ada/s", headers=text).status_int == 201
    bob.get("/streams/users/ada/s", status=403)
    fork = {"Stream-Forked-From": "/streams/users/ada/s"}
    bob.put("/streams/users/bob/s", headers=fork, status=403)
    assert ada.put("/streams/users/ada/fork", headers=fork).status_int == 201


def test_the_observer_of_the_page_counts(names: dict[str, Any]) -> None:
    client = TestApp(names["observed"])
    client.put("/streams/s", "x", headers={"Content-Type": "text/plain", "Stream-Closed": "true"})
    body = client.get("/streams/s?offset=-1&live=sse").body
    assert names["counter"].requests == {("create", 201): 1, ("subscribe", 200): 1}
    assert names["counter"].live_bytes == len(body)


@pytest.mark.parametrize("argument", inspect.signature(build_blueprint).parameters)
def test_the_page_has_each_argument_of_the_blueprint(argument: str) -> None:
    assert f"\n| `{argument}` |" in PAGE


@pytest.mark.parametrize("method", METHODS)
def test_the_page_has_each_method_with_its_arguments(method: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| `") and f"`{method}(" in line]
    arguments = list(inspect.signature(getattr(Streams, method)).parameters)[1:]
    assert f"{method}({', '.join(arguments)})" in row.replace("*", "")


def test_the_page_has_each_operation_and_each_end_of_a_live_read() -> None:
    operations = {
        value for name, value in vars(inspect.getmodule(StreamRoutes)).items() if name in OPERATIONS
    }
    assert len(operations) == len(OPERATIONS)
    missing = {word for word in operations | set(LiveEnd) if f"`{word}`" not in PAGE}
    assert missing == set()


OPERATIONS = {"CREATE", "APPEND", "READ", "POLL", "SUBSCRIBE", "HEAD", "DELETE"}


def test_the_page_has_what_a_gate_may_use() -> None:
    exchange = Exchange({})
    shown = {"environ", "name", "operation", "live", "source", "principal"}
    assert all(hasattr(exchange, name) for name in shown)
    assert {name for name in shown if f"\n| `{name}` |" not in PAGE} == set()
