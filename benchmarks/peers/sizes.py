"""Loads that ask what size costs: one very long stream, and very many streams."""

from __future__ import annotations

import threading
import time
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.peers.loads import (
    BASE,
    MIB,
    NEXT_OFFSET,
    SMALL,
    TEXT,
    Figures,
    Load,
    ask,
    connection,
    wrk,
)
from benchmarks.peers.running import Running

PIECE = 4 * MIB
CONNECTIONS = 8


def tail_reads(size: int) -> Load:
    """Reads of the last 100 bytes of a stream that holds `size` bytes before them."""

    def load(server: Running, seconds: float, folder: Path) -> Figures:
        path = f"{BASE}sized-{size}"
        with connection(server) as client:
            _fill(client, path, size)
            offset = ask(client, "POST", path, SMALL, TEXT)[NEXT_OFFSET]
            ask(client, "POST", path, SMALL, TEXT)
        server.settle()
        return wrk(server, seconds, CONNECTIONS, "GET", f"{path}?offset={offset}&n=%d")

    return load


def appends(size: int) -> Load:
    """Small appends to a stream that holds `size` bytes already."""

    def load(server: Running, seconds: float, folder: Path) -> Figures:
        path = f"{BASE}sized-{size}"
        with connection(server) as client:
            _fill(client, path, size)
        server.settle()
        file = folder / "body"
        file.write_bytes(SMALL)
        return wrk(server, seconds, CONNECTIONS, "POST", f"{path}?n=%d", 1, file, TEXT)

    return load


def _fill(client: HTTPConnection, path: str, size: int) -> None:
    """Make the stream, unless an earlier load has."""
    client.request("HEAD", path)
    response = client.getresponse()
    response.read()
    if response.status == 200:
        return
    ask(client, "PUT", path, kind=TEXT)
    while size > 0:
        ask(client, "POST", path, b"x" * min(size, PIECE), TEXT)
        size -= PIECE


def create_many(server: Running, count: int, seconds_max: float) -> None:
    """`count` streams of 100 bytes, over several connections. Raises RuntimeError when that takes too long."""
    writers = 32
    end = time.monotonic() + seconds_max
    made = [0] * writers

    def create(writer: int) -> None:
        with connection(server) as client:
            for number in range(writer, count, writers):
                if time.monotonic() > end:
                    return
                ask(client, "PUT", f"{BASE}many/{number:06d}", SMALL, TEXT)
                made[writer] += 1

    threads = [threading.Thread(target=create, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if sum(made) < count:
        raise RuntimeError(f"only {sum(made):,} streams could be created in {seconds_max:.0f} s")
