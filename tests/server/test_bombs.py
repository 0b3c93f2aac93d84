"""Small requests that could cost much work: while each is served, the requests of others go on.

What counts is the order of answers, not how long they take: of requests that another client makes one after the other,
many are answered between the last byte of a bomb and its own answer; of one that is sent in pieces, between its first
pieces and its answer. `make bench-bombs` measures what a bomb costs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest

from benchmarks.bombs import BOMBS, HEAD_END, Bomb
from tests.server.sockets import Exchange
from tests.servers import Server, ServerKind, running_server

ANSWERS_MIN = 2
"""Of the other client during one bomb; without turns there is one at most."""
BOMBS_MAX = 10
"""The machine may keep the other client waiting: one bomb of so many has to show that there are turns."""

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(server_kind: ServerKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        # What some rows of the table lift; the limits themselves are tested elsewhere.
        **{key: value for bomb in BOMBS for key, value in bomb.lifts.items()},
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
        """The server has enough of the bomb to work on."""
        self.answers = -self._bystander.answers

    def end(self) -> None:
        """It has been answered."""
        self.answers += self._bystander.answers

    def __exit__(self, *exc_info: object) -> None:
        self._bystander.leave()


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.title)
def test_others_are_served_meanwhile(server: Server, bomb: Bomb) -> None:
    served = [served_during(server, bomb)]
    while bomb.is_work and served[-1] < ANSWERS_MIN and len(served) < BOMBS_MAX:
        served.append(served_during(server, bomb))
    assert not bomb.is_work or served[-1] >= ANSWERS_MIN, served


def served_during(server: Server, bomb: Bomb) -> int:
    """How many requests of another client are answered while the server works on a bomb."""
    target = f"/v1/stream/bombs/{uuid4().hex}"
    if bomb.before is not None:
        with Exchange(server.port) as before:
            before.send(b"".join(bomb.before(target)))
            assert before.read_answer()[0] == 201
    *first, last = bomb.sent(target)
    with Meanwhile(server) as meanwhile, ExitStack() as connections:
        bombers = [connections.enter_context(Exchange(server.port)) for _ in range(bomb.clients)]
        for bomber in bombers:
            for piece in first:
                bomber.send(piece)
        if first:
            meanwhile.begin()
        for bomber in bombers:
            bomber.send(last)
        if not first:
            meanwhile.begin()
        answers = [answer_of(bomber, bomb) for bomber in bombers]
        meanwhile.end()
    assert {status for status, _ in answers} == {bomb.status}, answers
    if bomb.status == 400 and bomb.before is None:
        assert json.loads(answers[0][1])["code"] == "INVALID_JSON"
    server.request("DELETE", target)
    return meanwhile.answers


def answer_of(bomber: Exchange, bomb: Bomb) -> tuple[int, bytes]:
    """The status, and the body if it is short."""
    if bomb.until == HEAD_END:
        status, _, body = bomber.read_answer()
        return status, body
    head = bomber.read_until(HEAD_END)
    bomber.read_past(bomb.until)
    return int(head.split()[1]), b""
