"""Appends to a stream that remembers few producers, and to one that remembers many: what does remembering cost?"""

from __future__ import annotations

import itertools
from pathlib import Path
from time import process_time
from typing import Any, Final

import gevent

from benchmarks.storage.modes import open_store
from benchmarks.storage.writing import BYTES, PAYLOAD, bytes_written, create_streams, stream_name
from durable_streams.protocol.requests import Append, Producer
from durable_streams.streams.store import StreamStore

STREAM: Final = stream_name(0)
FILLED_AT_ONCE: Final = 512


def measure_producers(mode: str, folder: str, producers: int, writers: int, appends: int) -> dict[str, Any]:
    """CPU time and bytes an append, of all threads of the process, with `producers` that write in turn.

    `writers` at a time wait for their answers. Each of them writes for the producer whose turn it is, so every append
    changes the state of another producer: the worst case for a storage.
    """
    with open_store(mode, Path(folder)) as store:
        create_streams(store, 1)
        turns = _Turns(store, producers)
        for _ in range(0, producers, FILLED_AT_ONCE):
            turns.run(min(FILLED_AT_ONCE, producers), each=1)
        turns.run(writers, each=max(1, appends // writers // 4))
        written, began = bytes_written(), process_time()
        turns.run(writers, each=appends // writers)
        elapsed, written = process_time() - began, bytes_written() - written
    return {"cpu_us": elapsed / appends * 1e6, "bytes_per_append": written / appends}


class _Turns:
    """Whose turn it is, and with which sequence number."""

    def __init__(self, store: StreamStore, producers: int) -> None:
        self._store = store
        self._ids = [f"producer-{number}" for number in range(producers)]
        self._count = itertools.count()

    def run(self, writers: int, each: int) -> None:
        for job in gevent.joinall([gevent.spawn(self._write, each) for _ in range(writers)]):
            job.get()

    def _write(self, appends: int) -> None:
        for _ in range(appends):
            # Nothing switches between here and the queue of the pipeline, so the numbers stay in order.
            seq, place = divmod(next(self._count), len(self._ids))
            self._store.append(Append(STREAM, BYTES, PAYLOAD, producer=Producer(self._ids[place], 0, seq)))
