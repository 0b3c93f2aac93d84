"""Several workers: whichever is asked gives the sum of all, by prometheus_client's files in a shared folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import gevent
import pytest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from durable_streams import __version__
from durable_streams.metrics import processes
from durable_streams.metrics.processes import SHARED_FOLDER as FOLDER_OF_WORKERS
from durable_streams.serving import shared_metrics
from tests.metrics.reading import Samples, samples, value
from tests.web.conftest import OpenServer
from tests.web.driving import PATIENCE_S, TEXT

ON = {"enabled": True}

AsWorker = Callable[[int], None]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(FOLDER_OF_WORKERS, str(tmp_path))
    return tmp_path


@pytest.fixture
def as_worker(monkeypatch: pytest.MonkeyPatch) -> AsWorker:
    """From now on this process has the id of that worker."""
    real = os.getpid()

    def become(number: int) -> None:
        monkeypatch.setattr(os, "getpid", lambda: real * 10 + number)

    return become


def appends(found: Samples) -> float:
    return value(found, "request_duration_seconds_count", operation="append", status="2xx")


def test_the_one_that_is_asked_adds_up_all(
    open_server: OpenServer, folder: Path, as_worker: AsWorker
) -> None:
    servers = [open_server(metrics=ON) for _ in range(3)]
    alone: list[Samples] = []
    for number, server in enumerate(servers):
        as_worker(number)
        server.put("a", b"x", TEXT)
        for _ in range(number + 1):
            server.post("a", b"yy", TEXT)
        alone.append(samples(server))
    # Each answer has what the workers before it have done.
    assert [appends(found) for found in alone] == [1, 3, 6]
    found = alone[-1]
    assert value(found, "appended_bytes_total") == 3 + 2 * 6
    assert value(found, "pending_writes_limit") == 3 * 4096
    assert value(found, "ready") == 1
    assert value(found, "streams") == 1
    assert value(found, "build_info", version=__version__, mode="memory") == 1
    assert found["process_start_time_seconds", ()] == pytest.approx(
        alone[0]["process_start_time_seconds", ()]
    )


def test_the_buckets_of_a_histogram_add_up(
    open_server: OpenServer, folder: Path, as_worker: AsWorker
) -> None:
    for number in range(3):
        as_worker(number)
        server = open_server(metrics=ON)
        for name in range(4):
            server.put(str(name), b"x", TEXT)
        found = samples(server)
    buckets = [count for (name, _), count in found.items() if name == "durable_streams_commit_changes_bucket"]
    assert buckets == [12.0] * len(buckets), "each commit was one change"
    assert value(found, "commit_changes_count") == value(found, "commit_changes_sum") == 12


def test_the_gauges_of_a_worker_that_has_ended_go_and_its_counters_stay(
    open_server: OpenServer, as_worker: AsWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(FOLDER_OF_WORKERS, str(tmp_path))
    shared_metrics.open_folder()
    try:
        servers = []
        for number in range(2):
            as_worker(number)
            servers.append(open_server(metrics=ON))
            servers[-1].put("a", b"x", TEXT)
            ended = os.getpid()
            before = samples(servers[-1])
        shared_metrics.forget(None, SimpleNamespace(pid=ended))
        as_worker(0)
        after = samples(servers[0])
    finally:
        shared_metrics.remove_folder()
    assert value(before, "pending_writes_limit") == 2 * value(after, "pending_writes_limit")
    assert value(before, "streams_created_total") == value(after, "streams_created_total") == 2
    assert list(tmp_path.iterdir()) == [], "the master leaves nothing behind"


def test_a_scrape_never_meets_a_file_that_is_being_made(
    open_server: OpenServer, folder: Path, as_worker: AsWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class MadeSlowly(MmapedDict):
        def __init__(self, path: str) -> None:
            Path(path).touch()
            made.append(path)
            list(MultiProcessCollector(None, str(folder)).collect())
            super().__init__(path)

    monkeypatch.setattr(processes, "MmapedDict", MadeSlowly)
    as_worker(0)
    samples(open_server(metrics=ON))
    assert made


def test_a_worker_writes_its_numbers_without_being_asked(open_server: OpenServer, folder: Path) -> None:
    server = open_server(metrics=ON)
    server.put("a", b"x", TEXT)
    with gevent.Timeout(PATIENCE_S):
        while not list(folder.iterdir()):
            gevent.sleep(0.05)
    assert {path.name.split("_")[0] for path in folder.iterdir()} <= {"counter", "histogram", "gauge"}
