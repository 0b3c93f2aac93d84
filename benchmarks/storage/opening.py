"""Many idle streams: how long opening takes with them, and how much memory each costs."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.storage.modes import ON_DISK, open_store
from benchmarks.storage.reading import resident_bytes
from benchmarks.storage.writing import create_streams, stream_name


def create_many(mode: str, folder: str, streams: int, killed: bool) -> dict[str, Any]:
    """`streams` streams; `killed`: the process ends at once and closes nothing."""
    with open_store(mode, Path(folder)) as store:
        create_streams(store, streams)
        if killed:
            os._exit(0)
    return {}


def measure_opening(mode: str, folder: str, streams: int) -> dict[str, Any]:
    """Seconds until the first stream was found, and resident bytes a stream."""
    gc.collect()
    before, began = resident_bytes(), perf_counter()
    with open_store(mode, Path(folder)) as store:
        if mode not in ON_DISK:
            create_streams(store, streams)
        store.find(stream_name(streams // 2))
        elapsed = perf_counter() - began
        gc.collect()
        per_stream = (resident_bytes() - before) / streams
    return {"open_s": elapsed, "bytes_per_stream": per_stream}
