"""Loads that ask what size costs: one very long stream, and very many streams."""

from __future__ import annotations

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
CREATORS = 64
CREATE_SECONDS = 4.0


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


def create_many(server: Running, count: int, seconds_max: float, folder: Path) -> None:
    """`count` streams of 100 bytes. Raises RuntimeError when that takes too long."""
    end = time.monotonic() + seconds_max
    file = folder / "body"
    file.write_bytes(SMALL)
    made = 0
    while made < count:
        if time.monotonic() > end:
            raise RuntimeError(f"only {made:,} of {count:,} streams could be created in {seconds_max:.0f} s")
        # What was under way when the last piece ended is asked for again: creating the same twice is no error.
        first = max(0, made - CREATORS)
        figures = wrk(server, CREATE_SECONDS, CREATORS, "PUT", f"{BASE}many/%d", count, file, TEXT, first)
        made = first + int(figures["requests"])
