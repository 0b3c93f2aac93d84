"""What streams cost in memory, with the trials of `make bench-storage` made smaller and the bounds made generous.

No speed is judged here: a busy machine must not fail a test.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.storage.__main__ import in_own_process
from benchmarks.storage.modes import MODES, ON_DISK
from benchmarks.storage.reading import resident_bytes
from tests.crash.client import Client
from tests.servers import Server, running_server

MEBIBYTE = 1 << 20
IDLE_STREAMS = 40_000
# What acid keeps in memory is the whole database, not only what is worth keeping at hand.
IDLE_STREAM_BYTES_MAX = dict.fromkeys(MODES, 1024) | {"acid in-memory": 2048}
LARGE_MEBIBYTES = 32
READS = 8
KEPT_MEBIBYTES_MAX = 24

every_mode = pytest.mark.parametrize("mode", MODES)


@every_mode
def test_an_idle_stream_costs_little_memory(mode: str, tmp_path: Path) -> None:
    if mode in ON_DISK:
        in_own_process("create_many", mode, str(tmp_path / "data"), IDLE_STREAMS, False)
    found = in_own_process("measure_opening", mode, str(tmp_path / "data"), IDLE_STREAMS)
    assert 0 < found["bytes_per_stream"] < IDLE_STREAM_BYTES_MAX[mode]


def worker_of(server: Server) -> int:
    """The process that serves: the arbiter's only child."""
    pid = server.process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@pytest.mark.server
@pytest.mark.parametrize("mode", ON_DISK)
def test_what_is_read_through_the_server_does_not_stay_in_memory(mode: str, tmp_path: Path) -> None:
    settings = {"DS_STORAGE__MODE": mode, "DS_HTTP__COMPRESSION": "false"}
    headers = {"Content-Type": "application/octet-stream"}
    with running_server(tmp_path, settings) as server, Client(server) as client:
        client.send("PUT", "large", headers)
        for _ in range(LARGE_MEBIBYTES):
            client.send("POST", "large", headers, b"x" * MEBIBYTE)
    # A second server, so that what writing has left in memory is not counted.
    with running_server(tmp_path, settings) as server, Client(server) as client:
        read_through(client)
        before = resident_bytes(worker_of(server))
        for _ in range(READS):
            read_through(client)
        kept = resident_bytes(worker_of(server)) - before
    assert kept < KEPT_MEBIBYTES_MAX * MEBIBYTE
    shutil.rmtree(tmp_path)


def read_through(client: Client) -> None:
    """Read the stream page by page, without keeping a page."""
    offset, total = "-1", 0
    while True:
        answer = client.send("GET", "large", query=f"?offset={offset}")
        total += len(answer.body)
        offset = answer.headers["stream-next-offset"]
        if "stream-up-to-date" in answer.headers:
            assert total == LARGE_MEBIBYTES * MEBIBYTE
            return
