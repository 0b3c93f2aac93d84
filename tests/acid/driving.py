"""Requests against an AcidStorage without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from durable_streams.protocol.requests import Request
from durable_streams.storage.contract import Change
from durable_streams.storage.on_disk.room import RoomLimits
from durable_streams.storage.zodb import AcidStorage, AcidTuning
from tests.disk.recording import HastyDisk
from tests.engines.driving import Script, decide, record

NO_LIMITS = RoomLimits(0, 0)
"""There is no reserve on the disk."""
QUIET = AcidTuning(interval_s=1e9, stop_pack_bytes=0)
"""Nothing happens behind the requests unless a test asks for it."""


def script(random: Random) -> Script:
    """Random requests whose bodies use every location that payload can have."""
    return Script(random, sizes=(1, 100, 700, 2500, 9000, 70_000))


def by_shard(storage: AcidStorage, changes: Sequence[Change]) -> list[tuple[int, list[Change]]]:
    """The changes of each shard, which are a transaction."""
    parts: dict[int, list[Change]] = {}
    for change in changes:
        parts.setdefault(storage.shard_of(change.name), []).append(change)
    return sorted(parts.items())


def commit(storage: AcidStorage, *requests: Request, now: float = 1000.0) -> Sequence[Change]:
    """Decide, and commit as one transaction a shard."""
    changes = decide(storage, requests, now)
    for shard, part in by_shard(storage, changes):
        record(storage, part, shard)
    return changes


def build(data_dir: Path | str, shard_count: int = 1, **more: Any) -> AcidStorage:
    """Not opened; without syncs and without anything behind the requests unless told."""
    return AcidStorage(
        data_dir,
        shard_count,
        disk=more.get("disk", HastyDisk()),
        tuning=more.get("tuning", QUIET),
        room=more.get("room", NO_LIMITS),
    )


@contextmanager
def opened(data_dir: Path | str, shard_count: int = 1, **more: Any) -> Iterator[AcidStorage]:
    """The same, opened, and closed at the end."""
    storage = build(data_dir, shard_count, **more)
    storage.open()
    try:
        yield storage
    finally:
        storage.close()


def shard_file(data_dir: Path, number: int = 0) -> Path:
    return data_dir / "acid" / f"{number:03d}.fs"


def pack_all(storage: AcidStorage) -> None:
    """Now, whether or not it is time for it."""
    for each in storage._background.shards:
        each.pack()
