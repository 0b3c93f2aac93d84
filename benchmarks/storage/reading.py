"""Catch-up reads of one large stream: how fast, cold and warm, and what of it stays in memory."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from benchmarks.storage.modes import ON_DISK, open_store
from benchmarks.storage.writing import BYTES
from durable_streams.protocol.requests import Append, Create
from durable_streams.protocol.state import NO_EXPIRY
from durable_streams.streams.store import StreamStore

STREAM: Final = "large"
PAGE_BYTES: Final = 1 << 20
APPEND_BYTES: Final = 64 << 10
MEBIBYTE: Final = 1 << 20


def write_large(mode: str, folder: str, stream_bytes: int) -> dict[str, Any]:
    """A stream of `stream_bytes`, in appends of 64 KiB."""
    with open_store(mode, Path(folder)) as store:
        _fill(store, stream_bytes)
    return {}


def _fill(store: StreamStore, stream_bytes: int) -> None:
    store.create(Create(STREAM, BYTES, NO_EXPIRY, False, b""))
    for number in range(stream_bytes // APPEND_BYTES):
        store.append(Append(STREAM, BYTES, number.to_bytes(8, "big") * (APPEND_BYTES // 8)))


def measure_reading(mode: str, folder: str, stream_bytes: int, total_bytes: int) -> dict[str, Any]:
    """MiB/s in pages of 1 MiB, first without the file cache, then with it, until `total_bytes` were read.

    A mode without a disk writes the stream first, and has no cold read.
    """
    result: dict[str, Any] = {}
    with open_store(mode, Path(folder)) as store:
        if mode not in ON_DISK:
            _fill(store, stream_bytes)
        before = resident_bytes()
        if mode in ON_DISK:
            drop_cached(Path(folder))
            result["cold_mib_per_s"] = _read_through(store)
        rounds = max(total_bytes // stream_bytes - 1, 1)
        result["warm_mib_per_s"] = max(_read_through(store) for _ in range(rounds))
        result["kept_mib"] = (resident_bytes() - before) / MEBIBYTE
    return result


def _read_through(store: StreamStore) -> float:
    state = store.find(STREAM)
    position, began = 0, perf_counter()
    while position < state.tail:
        page = store.read(state, position, PAGE_BYTES)
        position = page.stop
    return position / MEBIBYTE / (perf_counter() - began)


def drop_cached(folder: Path) -> None:
    """Make the system forget what it has in memory of the files in `folder`."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def resident_bytes(pid: int | None = None) -> int:
    """Memory that is a process's own, without mapped files; of this process unless `pid` names another."""
    lines = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) * 1024
