"""Writes tests/fixtures/*-v1, and says what must be read from them: `python -m tests.engines.fixture MODE DIRECTORY`.

A directory as a crash leaves it, with payload in every location, and everything that a state can hold. acid has two
shards: one packed, with a saved index and transactions behind it, and one without. The committed ones are never written
again; a new version of a layout gets a directory of its own.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from durable_streams.protocol.requests import AddFork, Producer, Remove
from durable_streams.protocol.state import Expiry, ForkPoint, ForkReference, StreamState
from durable_streams.storage.contract import Storage
from tests.engines.driving import append, create, read_all
from tests.engines.engine import ENGINES, Engine
from tests.servers import ROOT

SHARED = "ttl/ü€😀", "until"
UNTIL = Expiry(expires_at=2.0**33, expires_at_text="2242-03-16T12:56:32Z")


@dataclass(frozen=True)
class Fixture:
    """The streams of one kind of directory; those with an expiry and the fork are the same in all."""

    folder: str
    files: tuple[str, ...]
    """Names of its files, where they are always the same."""
    small: str
    small_bytes: bytes
    large: str
    large_bytes: bytes
    large_more: bytes
    producers: int
    """Of the small stream: each appends a point."""
    others: dict[str, bytes]

    @property
    def path(self) -> Path:
        return ROOT / "tests" / "fixtures" / self.folder


FILES = Fixture(
    "files-v1", (), "small", b"in the checkpoint", "large", bytes(range(256)) * 130, b"in the journal", 0, {}
)
ACID = Fixture(
    "acid-v1",
    ("000.fs", "000.fs.index", "001.fs", "layout.json"),
    "inline",
    b"in the head",
    "sealed",
    bytes(range(256)) * 300,
    b"in the tail",
    40,  # More than are kept in the head.
    {"chunked": b"chunk" * 1000},
)


def fixture_of(engine: Engine) -> Fixture:
    return ACID if engine.mode.name == "acid" else FILES


def write(engine: Engine, target: Path) -> None:
    """Fill the missing directory ``target``."""
    with tempfile.TemporaryDirectory() as folder, engine.opened(Path(folder) / "data") as storage:
        _write_streams(engine, storage, fixture_of(engine))
        ignored = shutil.ignore_patterns("lock", "*.lock", "001.fs.index")
        shutil.copytree(Path(folder) / "data", target, ignore=ignored)


def _write_streams(engine: Engine, storage: Storage, holds: Fixture) -> None:
    small, large, uid = holds.small, holds.large, f"first of {holds.large}"
    engine.commit(
        storage,
        create(small, holds.small_bytes),
        create(large, holds.large_bytes),
        create("gone", bytes(1000)),
    )
    engine.commit(storage, *(create(name, body) for name, body in holds.others.items()))
    engine.commit(storage, *(append(name, body) for name, body in holds.others.items()))
    engine.commit(storage, create(SHARED[0], expiry=Expiry(ttl_s=10**9)))
    engine.commit(storage, create(SHARED[1], expiry=UNTIL))
    engine.commit(storage, Remove("gone"))
    engine.pack(storage)
    engine.commit(storage, append(large, holds.large_more, producer=Producer("p", 3, 0), stream_seq="0007"))
    more = [append(small, b".", producer=Producer(f"p{n}", n, 0)) for n in range(holds.producers)]
    engine.commit(storage, *more)
    point = ForkPoint(large, uid, 2000, 1990, 10, True, 1_000_000_000)
    engine.commit(storage, AddFork(large, uid, "first of fork", "fork"))
    engine.commit(storage, create("fork", b"own", fork_point=point))
    engine.commit(storage, append(small, b", and more", close=True, producer=Producer("q", 0, 0)))


def check(engine: Engine, storage: Storage) -> None:
    """Everything that ``write`` has put there."""
    holds = fixture_of(engine)
    expected = {
        holds.small: holds.small_bytes + b"." * holds.producers + b", and more",
        holds.large: holds.large_bytes + holds.large_more,
        "fork": b"own",
        **{name: body * 2 for name, body in holds.others.items()},
        **dict.fromkeys(SHARED, b""),
    }
    assert storage.names("", "", 10) == sorted(expected)
    assert {name: read_all(storage, name) for name in expected} == expected
    _check_states(storage, holds)
    assert storage.due(2.0**33, 10) == list(SHARED)


def _check_states(storage: Storage, holds: Fixture) -> None:
    small, large, fork, ttl, until = (
        _state(storage, name) for name in (holds.small, holds.large, "fork", *SHARED)
    )
    assert (small.closed, small.closed_by) == (True, ("q", 0, 0))
    assert _pairs(small) == {f"p{n}": (n, 0) for n in range(holds.producers)} | {"q": (0, 0)}
    assert _pairs(large) == {"p": (3, 0)}
    assert large.stream_seq == "0007"
    # The first version did not record when a reference was taken.
    assert large.forks["first of fork"] in (ForkReference("fork", 0.0), ForkReference("fork", 1000.0))
    point = ForkPoint(holds.large, f"first of {holds.large}", 2000, 1990, 10, True, 1_000_000_000)
    assert fork.config.fork == point
    assert (ttl.config.expiry.ttl_s, ttl.touched_at) == (10**9, 1000.0)
    assert until.config.expiry == UNTIL


def _state(storage: Storage, name: str) -> StreamState:
    state = storage.known(name)
    assert state is not None
    return state


def _pairs(state: StreamState) -> dict[str, tuple[int, int]]:
    return {id: (each.epoch, each.seq) for id, each in state.producers.items()}


if __name__ == "__main__":
    write(next(engine for engine in ENGINES if engine.mode.name == sys.argv[1]), Path(sys.argv[2]))
