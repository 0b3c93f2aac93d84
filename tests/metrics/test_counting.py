"""What is counted, and as what: each row of the page docs/monitoring.md that a request can move."""

from __future__ import annotations

from pathlib import Path

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.metrics.counting import Histogram, SyncTimes
from durable_streams.protocol.errors import StorageFull
from durable_streams.storage.contract import Lost
from durable_streams.storage.files import FileStorage
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.streams.budget import held_bytes
from tests.metrics.reading import Samples, samples, value
from tests.web.conftest import OpenServer
from tests.web.driving import PATIENCE_S, TEXT, Server

ON = {"enabled": True}


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    return open_server(metrics=ON)


def requests(found: Samples, operation: str, status: str) -> float:
    return value(found, "request_duration_seconds_count", operation=operation, status=status)


@given(st.lists(st.floats(0, 100)), st.lists(st.floats(0.001, 50), min_size=1, max_size=9, unique=True))
def test_a_histogram_has_each_value_in_the_bucket_of_the_first_bound_that_is_not_below_it(
    values: list[float], bounds: list[float]
) -> None:
    found = Histogram(sorted(bounds))
    for each in values:
        found.note(each)
    for number, bound in enumerate(found.bounds):
        assert sum(found.counts[: number + 1]) == sum(each <= bound for each in values)
    assert sum(found.counts) == len(values)
    assert found.sum == sum(values)


def test_requests_are_counted_by_operation_and_status_and_errors_by_code(server: Server) -> None:
    server.put("a", b"x", TEXT)
    for _ in range(3):
        server.post("a", b"x", TEXT)
    server.get("a?offset=-1")
    server.get("missing")
    server.head("a")
    server.request("PATCH", "a")
    server.get("/healthz")
    server.get("/nowhere")
    found = samples(server)
    assert requests(found, "create", "2xx") == 1
    assert requests(found, "append", "2xx") == 3
    assert requests(found, "read", "2xx") == 1
    assert requests(found, "read", "4xx") == 1
    assert requests(found, "head", "2xx") == 1
    assert requests(found, "health", "2xx") == 1
    assert requests(found, "request", "4xx") == 2
    assert value(found, "errors_total", code="NOT_FOUND") == 2
    assert value(found, "errors_total", code="METHOD_NOT_ALLOWED") == 1
    assert value(found, "request_duration_seconds_sum", operation="append", status="2xx") > 0


def test_commits_have_their_bytes_their_changes_and_the_lives_of_streams(server: Server) -> None:
    server.put("a", b"12345", TEXT)
    server.put("short", b"", {**TEXT, "Stream-TTL": "10"})
    server.put("fork", b"", {"Stream-Forked-From": "/v1/stream/a"})
    server.post("a", b"678", TEXT)
    server.delete("fork")
    server.clock.now += 60
    assert server.store.sweep() == 1
    found = samples(server)
    assert value(found, "appended_bytes_total") == 8
    assert value(found, "streams_created_total") == 3
    assert value(found, "streams_removed_total", reason="deleted") == 1
    assert value(found, "streams_removed_total", reason="expired") == 1
    assert value(found, "streams") == 1
    assert value(found, "memory_bytes") == held_bytes(server.store.find("a"))
    assert value(found, "memory_limit_bytes") == 100 << 20
    assert value(found, "pending_writes_limit") == 4096
    # Two streams at once, when the fork comes and when it goes.
    assert value(found, "commit_changes_sum") == 8
    assert value(found, "commit_changes_count") == 6
    assert value(found, "commit_duration_seconds_count") == 6


def test_a_soft_deleted_stream_is_removed_once(server: Server) -> None:
    server.put("a", b"12345", TEXT)
    server.put("fork", b"", {"Stream-Forked-From": "/v1/stream/a"})
    server.delete("a")
    assert value(samples(server), "streams_removed_total", reason="deleted") == 1
    server.delete("fork")
    assert value(samples(server), "streams_removed_total", reason="deleted") == 2


def test_a_refused_commit_is_a_failure_and_no_change(open_server: OpenServer) -> None:
    class Full(InMemoryStorage):
        def commit(self, *arguments: object) -> Lost:
            raise StorageFull("on purpose")

    server = open_server(Full(), metrics=ON)
    assert server.put("a", b"x", TEXT).status_int == 507
    found = samples(server)
    assert value(found, "commit_failures_total") == 1
    assert value(found, "streams_created_total") == value(found, "commit_changes_count") == 0
    assert value(found, "errors_total", code="INSUFFICIENT_STORAGE") == 1


def test_live_readers_are_counted_while_they_wait_and_when_they_end(server: Server) -> None:
    server.put("a", b"first", TEXT)
    events = server.reading("a?offset=-1&live=sse")
    events.caught_up()
    poll = server.reading("a?offset=now&live=long-poll")
    found = samples(server)
    assert value(found, "live_readers", kind="sse") == 1
    assert value(found, "live_readers", kind="long-poll") == 1
    server.post("a", b"second", TEXT)
    assert poll.rest() == b"second"
    events.leave()
    found = samples(server)
    assert value(found, "live_readers", kind="sse") == value(found, "live_readers", kind="long-poll") == 0
    assert value(found, "live_reads_total", kind="long-poll", end="data") == 1
    assert value(found, "live_reads_total", kind="sse", end="client gone") == 1
    assert value(found, "live_sent_bytes_total", kind="long-poll") == len(b"second")
    assert value(found, "live_sent_bytes_total", kind="sse") > len(b"firstsecond")
    assert value(found, "wakes_total") == 2


def test_a_loop_that_is_held_up_is_late(server: Server) -> None:
    server.put("a", b"x", TEXT)
    with gevent.Timeout(PATIENCE_S):
        while not value(samples(server), "loop_lag_seconds_count"):
            gevent.sleep(0.01)


def test_syncs_are_noted_in_threads_and_counted_in_the_loop() -> None:
    syncs = SyncTimes()
    gevent.get_hub().threadpool.apply(syncs.note, (0.002,))
    assert sum(syncs.durations.counts) == 0
    syncs.count()
    assert sum(syncs.durations.counts) == 1
    assert syncs.durations.sum == 0.002


def test_the_file_storage_tells_its_journal_its_syncs_and_its_checkpoints(
    open_server: OpenServer, tmp_path: Path
) -> None:
    storage = FileStorage(tmp_path / "data", durable=True)
    server = open_server(storage, metrics=ON)
    server.put("a", b"x" * 1000, TEXT)
    before = samples(server)
    assert value(before, "journal_bytes") > 1000
    assert value(before, "unflushed_bytes") == 1000
    assert value(before, "sync_duration_seconds_count") >= 1
    assert value(before, "streams") == 1
    storage.checkpoint()
    after = samples(server)
    assert value(after, "compactions_total") == value(before, "compactions_total") + 1
    assert value(after, "journal_bytes") < 1000
    assert value(after, "background_failures_total") == 0


def test_the_counts_outlive_a_reload(server: Server) -> None:
    from durable_streams.app import REBUILD
    from durable_streams.config import Config

    server.put("a", b"x", TEXT)
    config = Config.model_validate({"log": {"rust_log": "off"}, "metrics": ON})
    server._app.app = server.flask.extensions[REBUILD](config)
    server.post("a", b"x", TEXT)
    found = samples(server)
    assert requests(found, "create", "2xx") == requests(found, "append", "2xx") == 1
