"""The file modes under the real pipeline: many requests, one write, and one sync or none."""

from __future__ import annotations

from pathlib import Path

import gevent
import pytest

from durable_streams.protocol.errors import InternalError, Unavailable
from durable_streams.protocol.requests import Producer
from durable_streams.streams.batch import Limits
from durable_streams.streams.pipeline import Pipeline
from durable_streams.streams.touches import Touches
from tests.disk.recording import FaultyDisk
from tests.engines.driving import append, create, read_all
from tests.files.driving import commit, opened


def test_requests_that_wait_together_share_one_sync(tmp_path: Path) -> None:
    disk = FaultyDisk({"sync"})
    with opened(tmp_path / "data", disk=disk) as storage:
        running = Pipeline(storage, Limits(), announce=lambda changes: None, touches=Touches(shared=False))
        running.start()
        commit(storage, *(create(f"stream {number}") for number in range(40)))
        disk.calls = 0
        waiting = [gevent.spawn(running.submit, append(f"stream {number}", b"x")) for number in range(40)]
        gevent.joinall(waiting, raise_error=True)
        assert disk.calls <= 2
        assert all(read_all(storage, f"stream {number}") == b"x" for number in range(40))
        running.stop()


def test_the_fast_mode_writes_each_request_at_once_and_syncs_none(tmp_path: Path) -> None:
    disk = FaultyDisk({"sync", "write"})
    with opened(tmp_path / "data", durable=False, disk=disk) as storage:
        running = Pipeline(storage, Limits(), announce=lambda changes: None, touches=Touches(shared=False))
        running.start()
        running.submit(create("a"))
        disk.calls = 0
        for number in range(10):
            running.submit(append("a", b"x", producer=Producer("p", 0, number)))
        assert disk.calls == 10
        running.stop()


def test_a_failed_sync_fails_the_partition_loudly(tmp_path: Path) -> None:
    disk = FaultyDisk(set(), 0)
    with opened(tmp_path / "data", disk=disk) as storage:
        running = Pipeline(storage, Limits(), announce=lambda changes: None, touches=Touches(shared=False))
        running.start()
        running.submit(create("a", b"before"))
        disk.kinds = {"sync"}
        with pytest.raises(InternalError):
            running.submit(append("a", b"unknown"))
        disk.kinds = set()
        assert running.failed
        with pytest.raises(Unavailable):
            running.submit(append("a", b"refused"))
        assert read_all(storage, "a") == b"before"
        running.stop()


def test_a_client_that_goes_away_stops_neither_its_request_nor_those_of_others(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        running = Pipeline(storage, Limits(), announce=lambda changes: None, touches=Touches(shared=False))
        running.start()
        running.submit(create("a"))
        leaving = [gevent.spawn(running.submit, append("a", b"x")) for _ in range(10)]
        gevent.sleep(0)
        gevent.killall(leaving)
        running.submit(append("a", b"y"))
        assert read_all(storage, "a") == b"x" * 10 + b"y"
        running.stop()
