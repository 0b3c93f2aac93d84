"""Clients of three workers append to one stream, read it and close it; their history must be that of one log."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import psycopg
import pytest

from tests.crash.client import NO_ANSWER, Client, read_all
from tests.postgres.cluster import shared_cluster
from tests.postgres.histories import Op, difference
from tests.servers import Answer, Server, running_server

pytestmark = pytest.mark.server

WORKERS = 3
CLIENTS = 9
CONNECTIONS = 2
"""Of each client: each stays with the worker that has accepted it."""
OPS = 60
"""Of each client."""
TEXT = {"Content-Type": "text/plain"}


class Recorder:
    """One client: its requests, one after the other, and what it was told."""

    def __init__(self, server: Server, name: str, number: int, rng: random.Random) -> None:
        self.ops: list[tuple[Op, str]] = []
        """Each with the offset that its answer named; what that is in bytes is found out afterwards."""
        self.offset_read = "-1"
        self.content = b""
        self.half_done = threading.Event()
        self._server, self._name, self._number, self._rng = server, name, number, rng
        self._clients = [Client(server) for _ in range(CONNECTIONS)]

    def run(self, closes: bool) -> None:
        for count in range(OPS):
            is_last = closes and count == OPS - 1
            if count == OPS // 2:
                self.half_done.set()
            kind = self._rng.choices((self._append, self._read_on, self._read_all, self._head), (5, 2, 1, 2))[
                0
            ]
            place = self._rng.randrange(CONNECTIONS)
            try:
                self._close(self._clients[place]) if is_last else kind(self._clients[place], count)
            except NO_ANSWER:
                self._clients[place].__exit__()
                self._clients[place] = Client(self._server)

    def end(self) -> None:
        for client in self._clients:
            client.__exit__()

    def _append(self, client: Client, count: int) -> None:
        op = Op(monotonic(), record=b"%d.%d;" % (self._number, count))
        self._write(client, op, TEXT)

    def _close(self, client: Client) -> None:
        op = Op(monotonic(), record=b"%d.last;" % self._number, closes=True)
        self._write(client, op, TEXT | {"Stream-Closed": "true"})

    def _write(self, client: Client, op: Op, headers: dict[str, str]) -> None:
        try:
            answer = client.send("POST", self._name, headers, op.record)
        except NO_ANSWER:
            self.ops.append((op, ""))
            raise
        if answer.status == 204:
            self._note(op, answer)
        elif answer.status == 409:
            # It has seen the end of the stream, and has changed nothing.
            self._note(Op(op.invoked, saw_closed=True), answer)
        else:
            # Nothing of it may be in the stream: the judge finds bytes that nobody wrote.
            assert answer.status == 503, answer

    def _read_on(self, client: Client, _: int) -> None:
        self._read(client, self.offset_read, self.content)

    def _read_all(self, client: Client, _: int) -> None:
        self._read(client, "-1", b"")

    def _read(self, client: Client, offset: str, before: bytes) -> None:
        op = Op(monotonic())
        answer = client.send("GET", self._name, query=f"?offset={offset}")
        if answer.status == 503:
            return
        assert answer.status == 200, answer
        content = before + answer.body
        self._note(replace(op, content=content, saw_closed="stream-closed" in answer.headers), answer)
        self.offset_read, self.content = answer.headers["stream-next-offset"], content

    def _head(self, client: Client, _: int) -> None:
        op = Op(monotonic())
        answer = client.send("HEAD", self._name)
        if answer.status == 200:
            self._note(replace(op, saw_closed="stream-closed" in answer.headers), answer)

    def _note(self, op: Op, answer: Answer) -> None:
        self.ops.append((replace(op, answered=monotonic()), answer.headers["stream-next-offset"]))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"DS_STORAGE__MODE": "postgres", "WEB_CONCURRENCY": str(WORKERS)}
    with running_server(tmp_path_factory.mktemp("linearizable"), settings) as running:
        yield running


def record(server: Server, name: str, rng: random.Random, disturb: Callable[[], None]) -> list[Op]:
    """The history of all clients, with positions for offsets."""
    with Client(server) as client:
        assert client.send("PUT", name, TEXT).status == 201
    recorders = [Recorder(server, name, number, random.Random(rng.random())) for number in range(CLIENTS)]
    threads = [
        threading.Thread(target=recorder.run, args=(number == 0,))
        for number, recorder in enumerate(recorders)
    ]
    for thread in threads:
        thread.start()
    recorders[0].half_done.wait()
    disturb()
    for thread in threads:
        thread.join()
    for recorder in recorders:
        recorder.end()
    noted = [each for recorder in recorders for each in recorder.ops]
    with Client(server) as client:
        length = len(read_all(client, name).content)
        rests = {offset: len(read_all(client, name, offset).content) for _, offset in noted if offset}
    return [replace(op, end=length - rests[offset]) if offset else op for op, offset in noted]


def kill_a_worker_and_end_sessions(server: Server) -> None:
    """The outcome of some requests is told to nobody."""
    pid = server.process.pid
    os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]), signal.SIGKILL)
    with psycopg.connect(shared_cluster().dsn, autocommit=True) as operator:
        operator.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'durable-streams-server' and query like '%ds_commit%'"
        )


@pytest.mark.parametrize("is_disturbed", [False, True], ids=["calm", "disturbed"])
@pytest.mark.parametrize("histories", [1, pytest.param(20, marks=pytest.mark.long)])
def test_three_workers_are_one_log(server: Server, histories: int, is_disturbed: bool) -> None:
    seed = int(os.environ.get("HISTORY_SEED") or random.randrange(2**32))
    print(f"HISTORY_SEED={seed}")
    rng = random.Random(seed)
    for number in range(histories):
        name = f"log/{seed}/{histories}/{is_disturbed}/{number}"
        disturb = (lambda: kill_a_worker_and_end_sessions(server)) if is_disturbed else lambda: None
        ops = record(server, name, rng, disturb)
        with Client(server) as client:
            final = read_all(client, name)
        assert isinstance(final.content, bytes)
        assert len(ops) > CLIENTS * OPS / 2
        assert difference(ops, final.content, final.closed) is None
