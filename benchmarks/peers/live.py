"""Loads of readers that wait: long-polls, and one stream fanned out to many over Server-Sent Events."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.loads import BASE, NEXT_OFFSET, SMALL, TEXT, Figures, Load, ask, connection
from benchmarks.peers.running import LOAD_CORE, Running, compiled

END_SECONDS_MAX = 60.0


def long_poll(server: Running, seconds: float, folder: Path) -> Figures:
    """An append, and the moment at which the reader that waits for it has it."""
    path = f"{BASE}poll"
    delays: list[float] = []
    with connection(server) as writer, connection(server) as reader:
        offset = ask(writer, "PUT", path, kind=TEXT)[NEXT_OFFSET]
        cpu, began = server.cpu_s(), time.perf_counter()
        while time.perf_counter() - began < seconds:
            reader.request("GET", f"{path}?live=long-poll&offset={offset}")
            # The request has to be waiting before the append comes.
            time.sleep(0.002)
            sent = time.perf_counter()
            ask(writer, "POST", path, SMALL, TEXT)
            response = reader.getresponse()
            response.read()
            delays.append((time.perf_counter() - sent) * 1e3)
            offset = response.headers[NEXT_OFFSET]
        cpu = server.cpu_s() - cpu
    delays.sort()
    return {
        "p50_ms": delays[len(delays) // 2],
        "p99_ms": delays[len(delays) * 99 // 100],
        "cpu_us": cpu * 1e6 / len(delays),
    }


def fan_out(readers: int, rate: float, seconds: float) -> Load:
    """Readers of one stream over SSE; `rate` 0 appends as fast as the server answers."""

    def load(server: Running, _: float, folder: Path) -> Figures:
        name = f"{BASE}fan-{readers}-{rate:.0f}"
        with _readers(server, name, readers, seconds, rate) as process:
            cpu = server.cpu_s()
            output, _error = process.communicate("go\n", timeout=seconds + END_SECONDS_MAX)
            cpu = server.cpu_s() - cpu
        result = json.loads(output)
        if not result["deliveries"]:
            raise RuntimeError("nothing was delivered")
        return {
            "rate": result["deliveries"] / result["seconds"],
            "p50_ms": result["p50_ms"],
            "p99_ms": result["p99_ms"],
            "cpu_us": cpu * 1e6 / result["deliveries"],
            "not delivered": result["wanted"] - result["deliveries"],
        }

    return load


def idle(readers: int) -> Load:
    """What one waiting SSE reader costs in memory, and to connect; on a server that has not had readers before."""

    def load(server: Running, _: float, folder: Path) -> Figures:
        with _readers(server, f"{BASE}warm-up", 20, 0, 0):
            pass
        server.settle()
        before, cpu = server.rss_bytes(), server.cpu_s()
        with _readers(server, f"{BASE}idle", readers, 0, 0):
            held, cpu = server.rss_bytes() - before, server.cpu_s() - cpu
        return {"KB a connection": held / readers / 1000, "cpu_us": cpu * 1e6 / readers}

    return load


@contextmanager
def _readers(
    server: Running, path: str, count: int, seconds: float, rate: float
) -> Iterator[subprocess.Popen[str]]:
    """Connected readers that wait for a line on their standard input."""
    with connection(server) as client:
        ask(client, "PUT", path, kind=TEXT)
    program = [str(compiled("sse_readers")), str(server.port), path, str(count), str(seconds), str(rate)]
    process = subprocess.Popen(
        ["taskset", "-c", LOAD_CORE, *program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        if not process.stdout.readline().startswith("ready"):
            raise RuntimeError(f"the readers could not connect: {process.stderr.read().strip()}")
        yield process
    finally:
        process.kill()
        process.wait()
