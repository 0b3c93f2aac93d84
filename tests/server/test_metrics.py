"""The metrics of the real server: every worker answers for all, and the master cleans up."""

from __future__ import annotations

import http.client
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.metrics.reading import Samples, samples_of, value
from tests.servers import running_server

TEXT = {"Content-Type": "text/plain"}
WORKERS = 3
CONNECTIONS = 8
"""Each stays with the worker that has accepted it, so that requests go to several."""

pytestmark = pytest.mark.server


def scraped(connection: http.client.HTTPConnection) -> Samples:
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.status == 200
    return samples_of(response.read().decode())


def ask(connection: http.client.HTTPConnection, method: str, path: str) -> int:
    connection.request(method, path, body=b"x", headers=TEXT)
    response = connection.getresponse()
    response.read()
    return response.status


def test_any_of_several_workers_answers_for_all(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    settings = {
        "DS_STORAGE__MODE": "postgres",
        "WEB_CONCURRENCY": str(WORKERS),
        "DS_METRICS__ENABLED": "true",
        "PROMETHEUS_MULTIPROC_DIR": str(shared),
    }
    with running_server(tmp_path, settings) as server, ExitStack() as stack:
        connections = [stack.enter_context(closing(server.connect())) for _ in range(CONNECTIONS)]
        assert ask(connections[0], "PUT", "/v1/stream/s") == 201
        for connection in connections:
            assert ask(connection, "POST", "/v1/stream/s") == 204

        def complete() -> Samples | None:
            # What another worker has counted is there within a second.
            found = scraped(connections[0])
            counted = value(found, "request_duration_seconds_count", operation="append", status="2xx")
            return found if counted == CONNECTIONS else None

        found = server.await_true(complete)
        assert value(found, "appended_bytes_total") >= 1 + CONNECTIONS
        assert value(found, "ready") == 1
        assert value(found, "database_bytes") > 0
        assert value(found, "commit_failures_total") == 0
        assert any(shared.iterdir())
    assert list(shared.iterdir()) == []


def test_a_server_on_disk_counts_syncs_and_its_loop(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, {"DS_STORAGE__MODE": "acid", "DS_METRICS__ENABLED": "true"}) as server,
        closing(server.connect()) as connection,
    ):
        assert ask(connection, "PUT", "/v1/stream/s") == 201
        found = scraped(connection)
        assert value(found, "sync_duration_seconds_count") >= 1
        assert value(found, "database_bytes") > 0
        assert value(found, "storage_failed") == 0
        server.await_true(lambda: value(scraped(connection), "loop_lag_seconds_count"))
