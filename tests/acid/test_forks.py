"""A fork and its source in two shards, one of which fails between the two steps."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from time import time

import pytest

from durable_streams.protocol.errors import OutcomeUnknown, StreamGone
from durable_streams.protocol.requests import Create, ForkSource
from durable_streams.protocol.state import NO_EXPIRY, ORPHAN_AGE_S, RECHECK_DELETED_S
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore
from tests.acid.driving import build
from tests.disk.recording import FaultyDisk

SHARDS = 2
TEXT = "text/plain"


def opened_store(data_dir: Path, disk: FaultyDisk, clock: Callable[[], float] = time) -> StreamStore:
    store = StreamStore(build(data_dir, SHARDS, disk=disk), Limits(), clock=clock)
    store.open()
    return store


def test_a_source_stays_when_nobody_knows_whether_its_fork_was_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The sync of the fork fails, and its transaction is on the disk all the same: the next opening finds it."""
    caplog.set_level(logging.CRITICAL + 1)
    disk = FaultyDisk(set())
    late_s = 0.0
    store = opened_store(tmp_path / "data", disk, lambda: time() + late_s)
    shard = store.storage.shard_of
    fork = next(name for name in ("f", "g", "h", "i", "j") if shard(name) != shard("source"))
    store.create(Create("source", TEXT, NO_EXPIRY, False, b"inherited"))
    # The first sync is that of the reference, which the source's shard keeps.
    disk.kinds, disk.calls, disk.fail_at = {"sync"}, 0, 1
    with pytest.raises(OutcomeUnknown):
        store.create(Create(fork, None, NO_EXPIRY, False, b", own", ForkSource("source", None, 0)))
    assert disk.failed == "sync"
    # So old that its reference would be an orphan, were it certain that there is no fork.
    late_s = ORPHAN_AGE_S
    store.remove("source")
    late_s += RECHECK_DELETED_S
    store.sweep()
    store.close()
    store = opened_store(tmp_path / "data", FaultyDisk(set()))
    assert store.read(store.find(fork), 0, 100).data == b"inherited, own"
    with pytest.raises(StreamGone):
        store.find("source")
    store.remove(fork)
    assert store.storage.names("", "", 10) == []
    store.close()
