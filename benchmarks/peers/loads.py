"""Plain loads: small and large requests by wrk, and reads of a whole stream; and the figures that come of them.

Rates and latencies come from the load's own clock; CPU is user and system time of all of the server's processes,
which is what to trust on a machine that does other things too.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.peers.running import CLIENTS, LOAD_CORE, Running, compiled
from benchmarks.peers.servers import Missing

Figures = dict[str, float]
Load = Callable[[Running, float, Path], Figures]

BASE = "/v1/stream/"
NEXT_OFFSET = "stream-next-offset"
TEXT, BYTES, JSON = "text/plain", "application/octet-stream", "application/json"
MIB = 1 << 20
SMALL = b"x" * 100


def json_batch(count: int) -> bytes:
    """`count` messages of about 80 bytes in one body."""
    return json.dumps([{"id": number, "name": "x" * 40, "on": True} for number in range(count)]).encode()


@contextmanager
def connection(server: Running) -> Iterator[HTTPConnection]:
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
        raise RuntimeError(f"{method} was answered {response.status}")
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
    first: int = 0,
) -> Figures:
    """A plain load. `path` has a `%d` for the number of the stream, which counts up from `first` + 1."""
    if shutil.which("wrk") is None:
        raise Missing("wrk is not installed: `apt-get install wrk`")
    environ = os.environ | {"BENCH_METHOD": method, "BENCH_PATH": path, "BENCH_STREAMS": str(streams)}
    environ["BENCH_FIRST"] = str(first)
    if body is not None:
        environ |= {"BENCH_BODY": str(body), "BENCH_TYPE": kind}
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
    command += ["-s", str(CLIENTS / "requests.lua"), f"http://127.0.0.1:{server.port}"]
    return _loaded(server, command, environ)


def _loaded(server: Running, command: list[str], environ: Mapping[str, str]) -> Figures:
    """The figures of a loading program that prints its own as JSON, wrk's after the word RESULT."""
    cpu = server.cpu_s()
    finished = subprocess.run(
        ["taskset", "-c", LOAD_CORE, *command], env=environ, capture_output=True, text=True, check=True
    )
    cpu = server.cpu_s() - cpu
    result = json.loads(finished.stdout.rpartition("RESULT ")[2])
    if result["requests"] <= result["errors"]:
        raise RuntimeError("no request was answered as it should be")
    return {
        "rate": result["requests"] / result["seconds"],
        "p50_ms": result["p50_ms"],
        "p99_ms": result["p99_ms"],
        "cpu_us": cpu * 1e6 / result["requests"],
        "errors": result["errors"],
        "requests": result["requests"],
    }


def posts(connections: int, streams: int, body: bytes = SMALL, kind: str = TEXT) -> Load:
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


def gets(connections: int) -> Load:
    """Catch-up reads of 100 bytes."""

    def load(server: Running, seconds: float, folder: Path) -> Figures:
        with connection(server) as client:
            ask(client, "PUT", f"{BASE}small", SMALL, TEXT)
        return wrk(server, seconds, connections, "GET", f"{BASE}small?offset=-1&n=%d")

    return load


def heads(connections: int) -> Load:
    """HEAD of a stream of 100 bytes."""

    def load(server: Running, seconds: float, folder: Path) -> Figures:
        with connection(server) as client:
            ask(client, "PUT", f"{BASE}small", SMALL, TEXT)
        program = [str(compiled("head_requests")), str(server.port), f"{BASE}small"]
        return _loaded(server, [*program, str(connections), str(seconds)], os.environ)

    return load


def catch_up(size: int, kind: str) -> Load:
    """One reader reads a large stream from its start to its end, page by page if the server makes pages."""

    def load(server: Running, seconds: float, folder: Path) -> Figures:
        path = f"{BASE}large-{kind.partition('/')[2]}"
        piece = json_batch(12_000) if kind == JSON else b"x" * MIB
        with connection(server) as client:
            ask(client, "PUT", path, kind=kind)
            for _ in range(-(-size // len(piece))):
                ask(client, "POST", path, piece, kind)
        _read_all(server, path)
        server.settle()
        cpu, began, read, times = server.cpu_s(), time.perf_counter(), 0, 0
        while times < 2 or time.perf_counter() - began < seconds:
            read += _read_all(server, path)
            times += 1
        taken, cpu = time.perf_counter() - began, server.cpu_s() - cpu
        return {"rate": read / taken / 1e6, "cpu_us": cpu * 1e6 / (read / 1e6)}

    return load


def _read_all(server: Running, path: str) -> int:
    """Bytes of all bodies from the start to the tail, over a bare socket: a slow client would measure itself."""
    buffer, total, offset = bytearray(4 * MIB), 0, "-1"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as wire:
        while True:
            wire.sendall(f"GET {path}?offset={offset} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            head, rest = _head(wire)
            total += _skip_body(wire, head, rest, buffer)
            offset = head[NEXT_OFFSET]
            if head.get("stream-up-to-date", "").lower() == "true":
                return total


def _head(wire: socket.socket) -> tuple[dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = wire.recv(65536)
        if not piece:
            raise RuntimeError("the connection ended before the answer")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, rest


def _skip_body(wire: socket.socket, head: Mapping[str, str], rest: bytes, buffer: bytearray) -> int:
    received, tail = len(rest), rest[-5:]
    length = int(head["content-length"]) if "content-length" in head else None
    while received < length if length is not None else not tail.endswith(b"0\r\n\r\n"):
        count = wire.recv_into(buffer)
        if not count:
            raise RuntimeError("the connection ended within a body")
        received += count
        tail = (tail + bytes(buffer[max(0, count - 5) : count]))[-5:]
    return received
