"""Writes tests/fixtures/acid-v1, and says what must be read from it: `python -m tests.acid.fixture DIRECTORY`.

A directory as a crash leaves it, of two shards: one packed with a saved index and transactions behind it, one without;
streams of every form with everything that a state can hold. The committed one is never written again; a new version of
the layout gets a directory of its own.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from durable_streams.protocol.requests import AddFork, Producer, Remove
from durable_streams.protocol.state import Expiry, ForkPoint, ForkReference
from durable_streams.storage.zodb import AcidStorage
from tests.acid.driving import commit, opened, pack_all
from tests.files.driving import append, create, read_all

SHARDS = 2
SEALED = bytes(range(256)) * 300
CHUNKED = b"chunk" * 1000
MANY = 40
"""More producers than are kept in the head."""


def write(target: Path) -> None:
    """Fill the missing directory ``target``."""
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "data", SHARDS) as storage:
        _write_streams(storage)
        ignored = shutil.ignore_patterns("lock", "*.lock", "001.fs.index")
        shutil.copytree(Path(folder) / "data", target, ignore=ignored)


def _write_streams(storage: AcidStorage) -> None:
    commit(storage, create("inline", b"in the head"), create("sealed", SEALED), create("gone", bytes(1000)))
    commit(storage, create("chunked", CHUNKED))
    commit(storage, append("chunked", CHUNKED), create("ttl/ü€😀", expiry=Expiry(ttl_s=10**9)))
    commit(
        storage, create("until", expiry=Expiry(expires_at=2.0**33, expires_at_text="2242-03-16T12:56:32Z"))
    )
    commit(storage, Remove("gone"))
    pack_all(storage)
    commit(storage, append("sealed", b"in the tail", producer=Producer("p", 3, 0), stream_seq="0007"))
    commit(storage, *(append("inline", b".", producer=Producer(f"p{n}", n, 0)) for n in range(MANY)))
    point = ForkPoint("sealed", "first of sealed", 2000, 1990, 10, True, 1_000_000_000)
    commit(storage, AddFork("sealed", "first of sealed", "first of fork", "fork"))
    commit(storage, create("fork", b"own", fork_point=point))
    commit(storage, append("inline", b", and more", close=True, producer=Producer("q", 0, 0)))


def check(storage: AcidStorage) -> None:
    """Everything that ``write`` has put there."""
    assert storage.names("", "", 10) == ["chunked", "fork", "inline", "sealed", "ttl/ü€😀", "until"]
    assert read_all(storage, "inline") == b"in the head" + b"." * MANY + b", and more"
    assert read_all(storage, "sealed") == SEALED + b"in the tail"
    assert read_all(storage, "chunked") == CHUNKED * 2
    assert read_all(storage, "fork") == b"own"
    states = {name: storage.known(name) for name in storage.names("", "", 10)}
    inline, sealed, fork = states["inline"], states["sealed"], states["fork"]
    assert inline is not None
    assert sealed is not None
    assert fork is not None
    assert (inline.closed, inline.closed_by) == (True, ("q", 0, 0))
    pairs = {id: (each.epoch, each.seq) for id, each in inline.producers.items()}
    assert pairs == {f"p{n}": (n, 0) for n in range(MANY)} | {"q": (0, 0)}
    assert {id: (each.epoch, each.seq) for id, each in sealed.producers.items()} == {"p": (3, 0)}
    assert sealed.stream_seq == "0007"
    # The first version did not record when a reference was taken.
    assert sealed.forks["first of fork"] in (ForkReference("fork", 0.0), ForkReference("fork", 1000.0))
    assert fork.config.fork == ForkPoint("sealed", "first of sealed", 2000, 1990, 10, True, 1_000_000_000)
    ttl, until = states["ttl/ü€😀"], states["until"]
    assert ttl is not None
    assert until is not None
    assert (ttl.config.expiry.ttl_s, ttl.touched_at) == (10**9, 1000.0)
    assert until.config.expiry == Expiry(expires_at=2.0**33, expires_at_text="2242-03-16T12:56:32Z")
    assert storage.due(2.0**33, 10) == ["ttl/ü€😀", "until"]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
