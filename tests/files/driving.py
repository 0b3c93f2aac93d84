"""Requests against a FileStorage without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from durable_streams.protocol.requests import Request
from durable_streams.storage.contract import Change
from durable_streams.storage.files import FileStorage, FileTuning
from durable_streams.storage.on_disk.room import RoomLimits
from tests.disk.recording import HastyDisk
from tests.engines.driving import decide, record

NEVER_S = 1e9
NO_LIMITS = RoomLimits(0, 0)
"""There is no reserve on the disk either."""
BY_HAND = FileTuning(sync_interval_s=NEVER_S, checkpoint_age_s=NEVER_S)
"""Nothing happens behind the requests unless a test asks for it."""
SMALL = FileTuning(
    sync_interval_s=NEVER_S,
    checkpoint_age_s=NEVER_S,
    stream_unflushed_bytes=600,
    packed_bytes_max=200,
)
"""The same; and streams of some hundred bytes use every location that payload can have."""


def commit(storage: FileStorage, *requests: Request, now: float = 1000.0) -> Sequence[Change]:
    """Decide, and commit as one batch."""
    changes = decide(storage, requests, now)
    if changes:
        record(storage, changes)
    return changes


def build(data_dir: Path | str, durable: bool = True, **more: Any) -> FileStorage:
    """Not opened; without syncs and without anything behind the requests unless told."""
    return FileStorage(
        data_dir,
        durable,
        disk=more.get("disk", HastyDisk()),
        tuning=more.get("tuning", BY_HAND),
        room=more.get("room", NO_LIMITS),
    )


@contextmanager
def opened(data_dir: Path | str, durable: bool = True, **more: Any) -> Iterator[FileStorage]:
    """The same, opened, and closed at the end."""
    storage = build(data_dir, durable, **more)
    storage.open()
    try:
        yield storage
    finally:
        storage.close()
