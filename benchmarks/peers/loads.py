"""The loads: what is done to a running server, and the figures that come of it.

Rates and latencies come from the load's own clock; CPU is user and system time of all of the server's processes,
which is what to trust on a machine that does other things too.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from benchmarks.peers.servers import CLIENTS, LOAD_CORE, Missing, Running, compiled

Figures = dict[str, float]
BASE = "/v1/stream/"
SMALL = b"x" * 100
BATCH = json.dumps([{"id": number, "name": "x" * 40, "on": True} for number in range(100)]).encode()
MIB = 1 << 20
PAGE_HEADER = "stream-next-offset"


@contextmanager
def connection(server: Running) -> Any:
    client = HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        yield client
    finally:
        client.close()


def ask(
    client: HTTPConnection, method: str, path: str, body: bytes | None = None, kind: str = ""
) -> dict[str, str]:
    """One request that has to succeed; the headers of its answer by lower-case name."""
    client.request(method, path, body, {"Content-Type": kind} if kind else {})
    response = client.getresponse()
    response.read()
    if response.status >= 300:
        raise RuntimeError(f"{method} {path} was answered {response.status}")
    return {name.lower(): value for name, value in response.headers.items()}


def wrk(
    server: Running,
    seconds: float,
    connections: int,
    method: str,
    path: str,
    streams: int = 1,
    body: Path | None = None,
    kind: str = "",
) -> Figures:
    """A plain load. `path` has a `%d` for the number of the stream."""
    if shutil.which("wrk") is None:
        raise Missing("wrk is not installed: `apt-get install wrk`")
    environ = os.environ | {"BENCH_METHOD": method, "BENCH_PATH": path, "BENCH_STREAMS": str(streams)}
    if body is not None:
        environ |= {"BENCH_BODY": str(body), "BENCH_TYPE": kind}
    url = f"http://127.0.0.1:{server.port}"
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    cpu = server.cpu_s()
    finished = subprocess.run(
        [*command, "-s", str(CLIENTS / "requests.lua"), "--timeout", "30s", url],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    cpu = server.cpu_s() - cpu
    result = json.loads(finished.stdout.partition("RESULT ")[2])
    requests = max(1, result["requests"])
    return {
        "rate": result["requests"] / result["seconds"],
        "p50_ms": result["p50_ms"],
        "p99_ms": result["p99_ms"],
        "cpu_us": cpu * 1e6 / requests,
        "errors": result["errors"],
    }


def posts(
    connections: int, streams: int, body: bytes = SMALL, kind: str = "text/plain"
) -> Callable[..., Figures]:
    """Appends of `body` on kept-alive connections, spread over `streams` streams."""

    def load(server: Running, seconds: float, folder: Path) -> Figures:
        name = f"post-{connections}-{streams}-{len(body)}"
        with connection(server) as client:
            for number in range(1, streams + 1):
                ask(client, "PUT", f"{BASE}{name}-{number}", kind=kind)
        file = folder / "body"
        file.write_bytes(body)
        return wrk(server, seconds, connections, "POST", f"{BASE}{name}-%d", streams, file, kind)

    return load


def gets(connections: int, method: str = "GET") -> Callable[..., Figures]:
    """Catch-up reads of 100 bytes, or HEAD."""

    def load(server: Running, seconds: float, folder: Path) -> Figures:
        with connection(server) as client:
            ask(client, "PUT", f"{BASE}small", SMALL, "text/plain")
        return wrk(server, seconds, connections, method, f"{BASE}small?offset=-1&n=%d")

    return load


def catch_up(size: int, kind: str) -> Callable[..., Figures]:
    """One reader reads a large stream from its start to its end, page by page if the server makes pages."""

    def load(server: Running, seconds: float, folder: Path) -> Figures:
        path = f"{BASE}large-{kind.partition('/')[2]}"
        piece = BATCH if kind == "application/json" else b"x" * MIB
        with connection(server) as client:
            ask(client, "PUT", path, kind=kind)
            for _ in range(size // len(piece)):
                ask(client, "POST", path, piece, kind)
        _read_all(server.port, path)
        cpu, began, read, times = server.cpu_s(), time.perf_counter(), 0, 0
        while times < 2 or time.perf_counter() - began < seconds:
            read += _read_all(server.port, path)
            times += 1
        taken, cpu = time.perf_counter() - began, server.cpu_s() - cpu
        return {"rate": read / taken / 1e6, "cpu_us": cpu * 1e6 / (read / 1e6)}

    return load


def _read_all(port: int, path: str) -> int:
    """Bytes of all bodies from the start to the tail, over a bare socket: a slow client would measure itself."""
    buffer, total, offset = bytearray(4 * MIB), 0, "-1"
    with socket.create_connection(("127.0.0.1", port)) as wire:
        while True:
            wire.sendall(f"GET {path}?offset={offset} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            head, rest = _head(wire)
            total += _skip_body(wire, head, rest, buffer)
            offset = head[PAGE_HEADER]
            if "stream-up-to-date" in head:
                return total


def _head(wire: socket.socket) -> tuple[dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += wire.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, rest


def _skip_body(wire: socket.socket, head: Mapping[str, str], rest: bytes, buffer: bytearray) -> int:
    if "content-length" in head:
        left = int(head["content-length"]) - len(rest)
        while left > 0:
            left -= wire.recv_into(buffer)
        return int(head["content-length"])
    received = len(rest)
    tail = rest[-5:]
    while not tail.endswith(b"0\r\n\r\n"):
        count = wire.recv_into(buffer)
        received += count
        tail = (tail + bytes(buffer[max(0, count - 5) : count]))[-5:]
    return received


def long_poll(server: Running, seconds: float, folder: Path) -> Figures:
    """An append, and the moment at which the reader that waits for it has it."""
    path = f"{BASE}poll"
    delays: list[float] = []
    with connection(server) as writer, connection(server) as reader:
        offset = ask(writer, "PUT", path, kind="text/plain")[PAGE_HEADER]
        cpu, began = server.cpu_s(), time.perf_counter()
        while time.perf_counter() - began < seconds:
            reader.request("GET", f"{path}?live=long-poll&offset={offset}")
            time.sleep(0.002)  # The request has to be waiting before the append comes.
            sent = time.perf_counter()
            ask(writer, "POST", path, SMALL, "text/plain")
            response = reader.getresponse()
            response.read()
            delays.append((time.perf_counter() - sent) * 1e3)
            offset = response.headers[PAGE_HEADER]
        cpu = server.cpu_s() - cpu
    delays.sort()
    return {
        "rate": len(delays) / seconds,
        "p50_ms": delays[len(delays) // 2],
        "p99_ms": delays[len(delays) * 99 // 100],
        "cpu_us": cpu * 1e6 / len(delays),
    }


def fan_out(readers: int, appends: int, rate: float) -> Callable[..., Figures]:
    """Readers of one stream over SSE; `rate` 0 appends as fast as the server answers."""

    def load(server: Running, seconds: float, folder: Path) -> Figures:
        name = f"{BASE}fan-{readers}-{rate:.0f}"
        with connection(server) as client:
            ask(client, "PUT", name, kind="text/plain")
        before = server.rss_bytes()
        command = [
            str(compiled("sse_readers")),
            str(server.port),
            name,
            str(readers),
            str(appends),
            str(rate),
        ]
        process = subprocess.Popen(
            ["taskset", "-c", LOAD_CORE, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        ready = process.stdout.readline()
        if not ready.startswith("ready"):
            raise RuntimeError("the readers could not connect")
        held = (server.rss_bytes() - before) / readers / 1024
        cpu = server.cpu_s()
        output, _ = process.communicate("go\n", timeout=120)
        cpu = server.cpu_s() - cpu
        result = json.loads(output)
        return {
            "rate": result["deliveries"] / result["seconds"],
            "p50_ms": result["p50_ms"],
            "p99_ms": result["p99_ms"],
            "cpu_us": cpu * 1e6 / max(1, result["deliveries"]),
            "kb_a_connection": held,
            "errors": result["wanted"] - result["deliveries"],
        }

    return load


def at_size(size: int) -> Callable[..., Figures]:
    """Small appends to a stream, and reads of its last bytes, when it holds `size` bytes already."""

    def load(server: Running, seconds: float, folder: Path) -> Figures:
        path = f"{BASE}sized-{size}"
        with connection(server) as client:
            ask(client, "PUT", path, kind="text/plain")
            for _ in range(size // (8 * MIB)):
                ask(client, "POST", path, b"x" * (8 * MIB), "text/plain")
            if size % (8 * MIB):
                ask(client, "POST", path, b"x" * (size % (8 * MIB)), "text/plain")
            tail = ask(client, "POST", path, SMALL, "text/plain")[PAGE_HEADER]
        reads = wrk(server, seconds, 8, "GET", f"{path}?offset={tail}&n=%d")
        file = folder / "body"
        file.write_bytes(SMALL)
        figures = wrk(server, seconds, 8, "POST", f"{path}?n=%d", 1, file, "text/plain")
        return figures | {"read_rate": reads["rate"], "read_cpu_us": reads["cpu_us"]}

    return load


def create_many(server: Running, count: int) -> None:
    """`count` streams of 100 bytes, over several connections."""

    def create(first: int, last: int) -> None:
        with connection(server) as client:
            for number in range(first, last):
                ask(client, "PUT", f"{BASE}many/{number:06d}", SMALL, "text/plain")

    writers = 32
    share = -(-count // writers)
    threads = [
        threading.Thread(target=create, args=(k * share, min(count, (k + 1) * share))) for k in range(writers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
