"""Writes tests/fixtures/files-v1, and says what must be read from it: `python -m tests.files.fixture DIRECTORY`.

A directory as a crash leaves it: payload in a checkpoint, in stream files and in the journal, with everything that a
state can hold. The committed one is never written again; a new version of the layout gets a directory of its own.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from durable_streams.protocol.requests import AddFork, Producer, Remove
from durable_streams.protocol.state import Expiry, ForkPoint, ForkReference, ProducerState
from durable_streams.storage.files import FileStorage
from tests.files.driving import SMALL, append, commit, create, read_all

LARGE = bytes(range(256)) * 130


def write(target: Path) -> None:
    """Fill the missing directory ``target``."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        storage = FileStorage(data_dir, True, tuning=SMALL)
        storage.open()
        _write_streams(storage)
        shutil.copytree(data_dir, target, ignore=shutil.ignore_patterns("lock", "*.lock"))
        storage.close()


def _write_streams(storage: FileStorage) -> None:
    commit(
        storage, create("small", b"in the checkpoint"), create("large", LARGE), create("gone", bytes(1000))
    )
    commit(storage, create("ttl/ü€😀", expiry=Expiry(ttl_s=10**9)))
    commit(
        storage, create("until", expiry=Expiry(expires_at=2.0**33, expires_at_text="2242-03-16T12:56:32Z"))
    )
    storage.checkpoint()
    commit(storage, Remove("gone"))
    commit(storage, append("large", b"in the journal", producer=Producer("p", 3, 0), stream_seq="0007"))
    point = ForkPoint("large", "first of large", 2000, 1990, 10, True, 1_000_000_000)
    commit(storage, AddFork("large", "first of large", "first of fork", "fork"))
    commit(storage, create("fork", b"own", fork_point=point))
    commit(storage, append("small", b", and more", close=True, producer=Producer("q", 0, 0)))


def check(storage: FileStorage) -> None:
    """Everything that ``write`` has put there."""
    assert storage.names("", "", 10) == ["fork", "large", "small", "ttl/ü€😀", "until"]
    assert read_all(storage, "small") == b"in the checkpoint, and more"
    assert read_all(storage, "large") == LARGE + b"in the journal"
    assert read_all(storage, "fork") == b"own"
    small, large, fork = (storage.known(name) for name in ("small", "large", "fork"))
    assert small is not None
    assert large is not None
    assert fork is not None
    assert (small.closed, small.closed_by) == (True, ("q", 0, 0))
    assert _pairs(large.producers["p"]) == (3, 0)
    assert large.stream_seq == "0007"
    # The first version did not record when a reference was taken.
    assert large.forks["first of fork"] in (ForkReference("fork", 0.0), ForkReference("fork", 1000.0))
    assert fork.config.fork == ForkPoint("large", "first of large", 2000, 1990, 10, True, 1_000_000_000)
    ttl, until = storage.known("ttl/ü€😀"), storage.known("until")
    assert ttl is not None
    assert until is not None
    assert (ttl.config.expiry.ttl_s, ttl.touched_at) == (10**9, 1000.0)
    assert until.config.expiry == Expiry(expires_at=2.0**33, expires_at_text="2242-03-16T12:56:32Z")


def _pairs(producer: ProducerState) -> tuple[int, int]:
    return producer.epoch, producer.seq


if __name__ == "__main__":
    write(Path(sys.argv[1]))
