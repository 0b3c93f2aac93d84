"""Small requests over HTTP to a server of some workers, beside the same in `memory` mode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.loads import BASE, TEXT, ask, connection, posts, wrk
from benchmarks.peers.running import Running, running
from benchmarks.peers.servers import ours
from benchmarks.scale.clocks import Clocks
from tests.postgres.cluster import Cluster, new_schema

CONNECTIONS: Final = 32
STREAMS: Final = 64
SMALL: Final = b"x" * 100

Figures = dict[str, Any]


def small_requests(cluster: Cluster, workers: int, seconds: float, folder: Path) -> dict[str, Figures]:
    """CPU us of servers and database for a POST and for a fresh GET of 100 bytes; 0 workers: `memory` mode.

    All connections write to all streams, so with several workers every stream is everybody's.
    """
    kind = ours("postgres" if workers else "memory")
    if workers:
        own = {"DS_POSTGRES__DSN": cluster.dsn, "DS_POSTGRES__DB_SCHEMA": new_schema()}
        kind = replace(kind, environ=dict(kind.environ) | own | {"WEB_CONCURRENCY": str(workers)})
    with running(kind, folder / "data") as server:
        post = posts(CONNECTIONS, STREAMS, SMALL)
        post(server, 1, folder)
        return {
            "POST": _with_database(cluster, lambda: post(server, seconds, folder)),
            "GET": _reads(cluster, server, seconds),
        }


def _reads(cluster: Cluster, server: Running, seconds: float) -> Figures:
    with connection(server) as client:
        for number in range(1, STREAMS + 1):
            ask(client, "PUT", f"{BASE}read-{number}", SMALL, TEXT)
    path = f"{BASE}read-%d?offset=-1"
    wrk(server, 1, CONNECTIONS, "GET", path, STREAMS)
    return _with_database(cluster, lambda: wrk(server, seconds, CONNECTIONS, "GET", path, STREAMS))


def _with_database(cluster: Cluster, load: Any) -> Figures:
    clocks = Clocks(cluster.pid)
    found: Figures = load()
    database_us = clocks.database_s() / found["requests"] * 1e6
    return {
        "server_us": found["cpu_us"],
        "database_us": database_us,
        "rate": found["rate"],
        "p50_ms": found["p50_ms"],
        "errors": found["errors"],
    }
