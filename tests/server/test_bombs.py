"""Small requests that could cost much work: while each is served, the requests of others go on.

What counts is the order of answers, not how long they take: of requests that another client makes one after the other,
many are answered between the last byte of a bomb and its own answer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest

from tests.server.sockets import Exchange
from tests.servers import Server, ServerKind, running_server

BODY_BYTES = 10_000_000
ANSWERS_MIN = 2
"""Of the other client during one bomb; without turns there is one at most."""
BOMBS_MAX = 10
"""The machine may keep the other client waiting: one bomb of so many has to show that there are turns."""

JSON_BOMBS = {
    "digits": (b"1,", b"1", 204),
    "empty objects": (b"{},", b"{}", 204),
    "lone surrogates": (rb'"\ud800",', b"1", 204),
    "digits without an end": (b"1,", b"", 400),
    "empty objects with a last mistake": (b"{},", b"{]", 400),
}

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(server_kind: ServerKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "DS_LIMITS__MAX_REQUEST_BODY_BYTES": str(BODY_BYTES + 100),
        "DS_LIMITS__MAX_MESSAGES_PER_REQUEST": "0",
        **server_kind.environ,
    }
    with running_server(tmp_path_factory.mktemp("bombs"), settings) as running:
        yield running


class Bystander(threading.Thread):
    """Another client: one small request after the other until it is told to leave."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.answers = 0
        self._port = port
        self._leaves = threading.Event()

    def run(self) -> None:
        with Exchange(self._port) as exchange:
            while not self._leaves.is_set():
                exchange.send_request("GET", "/healthz")
                assert exchange.read_answer()[0] == 200
                self.answers += 1

    def leave(self) -> None:
        self._leaves.set()
        self.join()


class Meanwhile:
    """Counts what a bystander is answered while a block runs."""

    def __init__(self, server: Server) -> None:
        self.answers = 0
        self._bystander = Bystander(server.port)

    def __enter__(self) -> Meanwhile:
        self._bystander.start()
        return self

    def begin(self) -> None:
        """The bomb has been sent."""
        self.answers = -self._bystander.answers

    def end(self) -> None:
        """It has been answered."""
        self.answers += self._bystander.answers

    def __exit__(self, *exc_info: object) -> None:
        self._bystander.leave()


@pytest.mark.parametrize(("element", "last", "status"), JSON_BOMBS.values(), ids=JSON_BOMBS)
def test_others_are_served_while_a_json_bomb_is_split(
    server: Server, element: bytes, last: bytes, status: int
) -> None:
    target = f"/v1/stream/bombs/{uuid4().hex}"
    server.request("PUT", target, b"[]", {"Content-Type": "application/json"})
    body = b"[" + element * (BODY_BYTES // len(element)) + last + (b"]" if last else b"")
    with Meanwhile(server) as meanwhile, Exchange(server.port) as bomber:
        bomber.send_request("POST", target, body, Content_Type="application/json")
        meanwhile.begin()
        answered, _, problem = bomber.read_answer()
        meanwhile.end()
    assert answered == status, problem
    assert meanwhile.answers >= ANSWERS_MIN
    if status == 400:
        assert json.loads(problem)["code"] == "INVALID_JSON"
    assert server.request("DELETE", target).status == 204


def test_others_are_served_while_the_messages_before_a_fork_are_counted(server: Server) -> None:
    target = f"/v1/stream/bombs/{uuid4().hex}"
    count = BODY_BYTES // 2 - 10
    body = b"[" + b"1," * count + b"2]"
    assert server.request("PUT", target, body, {"Content-Type": "application/json"}).status == 201
    for sub_offset, status in ((count, 201), (count + 2, 400)):
        answers = [answers_while_forking(server, target, sub_offset, status)]
        while answers[-1] < ANSWERS_MIN and len(answers) < BOMBS_MAX:
            answers.append(answers_while_forking(server, target, sub_offset, status))
        assert answers[-1] >= ANSWERS_MIN, answers
    assert server.request("DELETE", target).status == 204


def answers_while_forking(server: Server, target: str, sub_offset: int, status: int) -> int:
    fork = f"{target}/{uuid4().hex}"
    with Meanwhile(server) as meanwhile, Exchange(server.port) as bomber:
        bomber.send_request(
            "PUT",
            fork,
            Stream_Forked_From=target,
            Stream_Fork_Offset="-1",
            Stream_Fork_Sub_Offset=str(sub_offset),
            Content_Length="0",
        )
        meanwhile.begin()
        answered, _, problem = bomber.read_answer()
        meanwhile.end()
    assert answered == status, problem
    server.request("DELETE", fork)
    return meanwhile.answers


READERS = 20


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'"' + b"x" * BODY_BYTES + b'"'),
        ("text/plain", b"\n" * BODY_BYTES),
        ("text/plain", b"\r" * BODY_BYTES),
    ],
    ids=["one long message", "line breaks", "carriage returns"],
)
def test_others_are_served_while_readers_catch_up(server: Server, content_type: str, body: bytes) -> None:
    target = f"/v1/stream/bombs/{uuid4().hex}"
    assert server.request("PUT", target, body, {"Content-Type": content_type}).status == 201
    with ExitStack() as readers, Meanwhile(server) as meanwhile:
        connections = [readers.enter_context(Exchange(server.port)) for _ in range(READERS)]
        for connection in connections:
            connection.send_request("GET", f"{target}?offset=-1&live=sse")
        meanwhile.begin()
        for connection in connections:
            connection.read_past(b'"upToDate":true')
        meanwhile.end()
    assert meanwhile.answers >= ANSWERS_MIN
    assert server.request("DELETE", target).status == 204
