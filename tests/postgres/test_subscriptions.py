"""Subscriptions of several workers over one database: one dispatches, any answers, and another takes over."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server, running_server
from tests.subscriptions.receiver import DONE, Delivery, Receiver

BASE = "/v1/stream"
JSON = {"Content-Type": "application/json"}
WORKERS = 3
SETTINGS = {
    "DS_STORAGE__MODE": "postgres",
    "WEB_CONCURRENCY": str(WORKERS),
    "DS_SUBSCRIPTIONS__ALLOW_LOCALHOST_WEBHOOKS": "true",
}

pytestmark = pytest.mark.server


class Told:
    """A receiver's memory: which offset of each stream it was told of last, and how often each wake came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.tails: dict[str, str] = {}
        self.wakes: dict[int, set[str]] = {}

    def receive(self, delivery: Delivery) -> bytes:
        wake = delivery.document
        with self._lock:
            self.wakes.setdefault(wake["generation"], set()).add(wake["wake_id"])
            self.tails |= {stream["path"]: stream["tail_offset"] for stream in wake["streams"]}
        return DONE


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path, SETTINGS) as running:
        yield running


def send(server: Server, method: str, path: str, document: object = None) -> Any:
    body = None if document is None else json.dumps(document).encode()
    answered = server.request(method, f"{BASE}/{path}", body, JSON)
    assert answered.status < 300, answered
    return answered


def subscribe(server: Server, receiver: Receiver) -> None:
    config = {"type": "webhook", "pattern": "events/*", "webhook": {"url": receiver.url}}
    send(server, "PUT", "__ds/subscriptions/hook", config)


def append(server: Server, path: str) -> str:
    return str(send(server, "POST", path, "x").headers["Stream-Next-Offset"])


def workers_of(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_appends_through_every_worker_are_told_and_acked_once(server: Server) -> None:
    told = Told()
    with Receiver(told.receive) as receiver:
        send(server, "PUT", "events/a", [])
        subscribe(server, receiver)
        # Each request has a connection of its own, so they go to several workers.
        for _ in range(30):
            tail = append(server, "events/a")
        server.await_true(lambda: told.tails.get("events/a") == tail)
        server.await_true(lambda: is_at_rest(server))
    assert all(len(ids) == 1 for ids in told.wakes.values()), "a generation names two wakes"


@pytest.mark.long
def test_another_worker_takes_over_within_the_lease(server: Server) -> None:
    told = Told()
    with Receiver(told.receive) as receiver:
        send(server, "PUT", "events/a", [])
        subscribe(server, receiver)
        tail = append(server, "events/a")
        server.await_true(lambda: told.tails.get("events/a") == tail)
        # Whichever dispatches is among them, and gives nothing back.
        killed = workers_of(server)
        for worker in killed:
            os.kill(worker, signal.SIGKILL)
        server.await_true(
            lambda: len(workers_of(server)) == WORKERS and not set(killed) & {*workers_of(server)}
        )
        tail = server.await_true(lambda: append_if_served(server))
        server.await_true(lambda: told.tails.get("events/a") == tail)
        server.await_true(lambda: is_at_rest(server))
    assert all(len(ids) == 1 for ids in told.wakes.values())


def append_if_served(server: Server) -> str | None:
    try:
        return append(server, "events/a")
    except OSError:
        return None


def is_at_rest(server: Server) -> bool:
    shown = json.loads(send(server, "GET", "__ds/subscriptions/hook").body)
    return shown["wake"] is None and shown["lag"]["streams"] == 0
