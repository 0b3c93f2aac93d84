"""Appends by many writers at once: how many a second, how long each takes, how long the loop stands still."""

from __future__ import annotations

import itertools
from array import array
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import gevent

from benchmarks.storage.modes import open_store
from benchmarks.storage.slow_sync import delay_syncs
from durable_streams.protocol.requests import Append, Create, Producer
from durable_streams.protocol.state import NO_EXPIRY
from durable_streams.streams.store import StreamStore

PAYLOAD: Final = b"x" * 200
BYTES: Final = "application/octet-stream"
WARM_UP_S: Final = 0.3
TICK_S: Final = 0.0005


def measure_writing(
    mode: str, folder: str, writers: int, streams: int, delay_ms: float, seconds: float
) -> dict[str, Any]:
    """Closed loop: every writer sends its next append when the last one was answered.

    An append is 200 bytes with the state of an idempotent producer.
    """
    with open_store(mode, Path(folder)) as store:
        create_streams(store, streams)
        if delay_ms:
            delay_syncs(delay_ms / 1000)
        run = _Run(store, writers, streams)
        gevent.sleep(WARM_UP_S)
        run.latencies, run.gaps = array("d"), array("d")
        written_before, began = bytes_written(), perf_counter()
        gevent.sleep(seconds)
        latencies, gaps = run.latencies, run.gaps
        elapsed, written = perf_counter() - began, bytes_written() - written_before
        run.stop()
    count = len(latencies)
    return {
        "appends_per_s": count / elapsed,
        "p50_ms": percentile(latencies, 0.5) * 1000,
        "p99_ms": percentile(latencies, 0.99) * 1000,
        "stall_p99_ms": percentile(gaps, 0.99) * 1000,
        "bytes_per_append": written / max(count, 1),
    }


def create_streams(store: StreamStore, count: int) -> None:
    requests = (Create(stream_name(number), BYTES, NO_EXPIRY, False, b"") for number in range(count))
    for some in iter(lambda: list(itertools.islice(requests, 512)), []):
        for job in gevent.joinall([gevent.spawn(store.create, request) for request in some]):
            job.get()


def stream_name(number: int) -> str:
    return f"bench/{number // 1000:04d}/{number % 1000:03d}"


class _Run:
    """The writers and the ticker, from now until `stop`."""

    def __init__(self, store: StreamStore, writers: int, streams: int) -> None:
        self.latencies = array("d")
        self.gaps = array("d")
        self._store = store
        self._stopping = False
        self._jobs = [gevent.spawn(self._write, number, writers, streams) for number in range(writers)]
        self._jobs.append(gevent.spawn(self._tick))

    def stop(self) -> None:
        self._stopping = True
        for job in gevent.joinall(self._jobs):
            job.get()

    def _write(self, writer: int, writers: int, streams: int) -> None:
        """Goes round the streams that are its own, or shares its one with other writers."""
        names = [stream_name(number) for number in range(writer % streams, streams, writers)]
        producer = f"writer-{writer}"
        for number in itertools.count():
            turn, place = divmod(number, len(names))
            request = Append(names[place], BYTES, PAYLOAD, producer=Producer(producer, 0, turn))
            began = perf_counter()
            self._store.append(request)
            self.latencies.append(perf_counter() - began)
            if self._stopping:
                return
            # Where a commit does not wait, nobody else would ever get a turn.
            if self._store.storage.commits_inline:
                gevent.sleep(0)

    def _tick(self) -> None:
        last = perf_counter()
        while not self._stopping:
            gevent.sleep(TICK_S)
            now = perf_counter()
            self.gaps.append(now - last)
            last = now


def percentile(values: array[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else float("nan")


def bytes_written() -> int:
    """Bytes that this process has handed to write calls."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("wchar:")).split()[1])
