"""`make bench-webhooks`: the latency of small POSTs while 1,000 webhook subscriptions are kept busy, as a table.

The same appends go to 1,000 streams in every row; in the second each stream has a subscription, whose wakes a receiver
on the other core answers. Meanwhile one client posts to a stream of its own. The rows are measured in turn, each on a
server of its own, round after round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from gevent.fileobject import FileObjectThread
from gevent.pywsgi import WSGIServer

from benchmarks.peers.loads import BASE, JSON, SMALL, TEXT, ask, connection
from benchmarks.peers.running import LOAD_CORE, Running, running
from benchmarks.peers.servers import ROOT, ours

STREAMS: Final = 1_000
APPENDS_PER_S: Final = 200
"""To the streams that are subscribed to, one after the other."""
SECONDS: Final = 15.0
ROUNDS: Final = 3
ROWS: Final = ("no subscription", f"{STREAMS:,} webhook subscriptions")


class Row:
    """What the rounds of one row have measured."""

    def __init__(self) -> None:
        self.waits_ms: list[float] = []
        self.cpu_ms_per_s: list[float] = []
        self.delivered = 0

    def percentile_ms(self, percent: int) -> float:
        return statistics.quantiles(self.waits_ms, n=100)[percent - 1]


def receive() -> None:
    """Answers every wake, and prints the port first and the number of wakes at the end of its input."""
    received = 0

    def answer(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        nonlocal received
        received += 1
        start_response("200 OK", [("Content-Type", JSON)])
        return [b'{"done": true}']

    server = WSGIServer(("127.0.0.1", 0), answer, log=None)
    server.start()
    print(server.server_port, flush=True)
    FileObjectThread(sys.stdin, "r").read()
    print(received, flush=True)


@contextmanager
def receiver() -> Iterator[subprocess.Popen[str]]:
    command = ["taskset", "-c", LOAD_CORE, sys.executable, "-m", "benchmarks.webhooks", "--receive"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def prepare(server: Running, receiver_port: int | None) -> None:
    """Make the streams, and a subscription to each if there is a receiver."""
    with connection(server) as client:
        ask(client, "PUT", BASE + "own", b"", TEXT)
        for number in range(STREAMS):
            ask(client, "PUT", f"{BASE}orders/{number}", b"", TEXT)
            if receiver_port is not None:
                config = {
                    "type": "webhook",
                    "streams": [f"orders/{number}"],
                    "webhook": {"url": f"http://127.0.0.1:{receiver_port}/"},
                }
                path = f"{BASE}__ds/subscriptions/order-{number}"
                ask(client, "PUT", path, json.dumps(config).encode(), JSON)


def append_evenly(server: Running, ends: float) -> None:
    with connection(server) as client:
        due = time.monotonic()
        number = 0
        while due < ends:
            time.sleep(max(0.0, due - time.monotonic()))
            ask(client, "POST", f"{BASE}orders/{number % STREAMS}", SMALL, TEXT)
            number += 1
            due += 1 / APPENDS_PER_S


def post_and_wait(client: HTTPConnection, ends: float) -> list[float]:
    """Milliseconds that each small POST took, one after the other with a pause in between."""
    waits_ms = []
    while time.monotonic() < ends:
        began = time.perf_counter()
        ask(client, "POST", BASE + "own", SMALL, TEXT)
        waits_ms.append((time.perf_counter() - began) * 1e3)
        time.sleep(0.002)
    return waits_ms


def measure(row: Row, *, subscribed: bool, folder: Path) -> None:
    kind = ours("memory")
    environ = dict(kind.environ) | {"DS_SUBSCRIPTIONS__ALLOW_LOCALHOST_WEBHOOKS": "true"}
    with receiver() as received, running(replace(kind, environ=environ), folder) as server:
        assert received.stdout is not None
        port = int(received.stdout.readline())
        prepare(server, port if subscribed else None)
        server.settle()
        cpu_s, ends = server.cpu_s(), time.monotonic() + SECONDS
        appending = threading.Thread(target=append_evenly, args=(server, ends))
        appending.start()
        with connection(server) as client:
            row.waits_ms += post_and_wait(client, ends)
        appending.join()
        row.cpu_ms_per_s.append((server.cpu_s() - cpu_s) / SECONDS * 1e3)
        server.settle()
        row.delivered += int(received.communicate()[0])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.webhooks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each row is measured")
    parser.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.receive:
        receive()
        return 0
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    # The two clients are threads: an answer must not wait 5 ms for the other one.
    sys.setswitchinterval(1e-4)
    rows = [Row() for _ in ROWS]
    for _ in range(chosen.rounds):
        for number, row in enumerate(rows):
            with TemporaryDirectory() as folder:
                measure(row, subscribed=bool(number), folder=Path(folder))
    print("| with | small POST, p50 ms | p99 ms | server CPU ms a second | wakes delivered |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for title, row in zip(ROWS, rows, strict=True):
        cpu = statistics.median(row.cpu_ms_per_s)
        print(
            f"| {title} | {row.percentile_ms(50):.2f} | {row.percentile_ms(99):.2f} | {cpu:.0f} | {row.delivered:,} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
