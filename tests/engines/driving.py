"""Requests against any storage on disk without a server, and a plain model of what must be found afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.requests import (
    AddFork,
    Append,
    Create,
    Identity,
    Producer,
    Remove,
    RemoveFork,
    Request,
    Touch,
)
from durable_streams.protocol.state import NO_EXPIRY, Expiry, ForkPoint
from durable_streams.storage.contract import RESTS_ON_NOTHING, Change, Lost, Storage
from durable_streams.storage.rows import to_row
from durable_streams.streams.batch import Batch, Limits
from durable_streams.streams.budget import MemoryBudget

Contents = dict[str, tuple[Any, bytes]]
"""Name -> row and local bytes: everything that can be seen of a storage."""


class Model:
    """The names, rows and bytes of all streams, as the changes say."""

    def __init__(self) -> None:
        self.contents: Contents = {}

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            after = change.after
            if after is None:
                del self.contents[change.name]
                continue
            held = b"" if change.is_new else self.contents[change.name][1]
            self.contents[change.name] = to_row(after), held + b"".join(change.appended)

    def copy(self) -> Contents:
        return dict(self.contents)


def contents(storage: Storage) -> Contents:
    """Everything that a storage serves."""
    found: Contents = {}
    for name in storage.names("", "", 1_000_000):
        state = storage.known(name)
        assert state is not None
        found[name] = to_row(state), storage.read(state, state.config.forked_at, state.tail)
    return found


def decide(storage: Storage, requests: Sequence[Request], now: float = 1000.0) -> Sequence[Change]:
    """The changes of one batch, each for itself; refused requests leave nothing in it."""

    def joins(fork: str, source: str) -> bool:
        return False

    batch = Batch(lambda name, _: storage.known(name), joins, Limits(), MemoryBudget(0), now)
    for request in requests:
        try:
            batch.decide(request)
        except ProtocolError:
            continue
    return [change for (change,) in batch.units()]


def record(storage: Storage, changes: Sequence[Change], shard: int = 0) -> Lost:
    """Commit ``changes``, each for itself."""
    return storage.commit(shard, [(change,) for change in changes], RESTS_ON_NOTHING)


def create(name: str, body: bytes = b"", **more: Any) -> Create:
    uid = more.pop("uid", f"first of {name}")
    expiry = more.pop("expiry", NO_EXPIRY)
    return Create(name, "text/plain", expiry, False, body, identity=Identity(uid, 0), **more)


def append(name: str, body: bytes, **more: Any) -> Append:
    return Append(name, "text/plain", body, **more)


class Script:
    """Batches of random requests of every kind; the same seed gives the same ones, as long as all are accepted."""

    def __init__(self, random: Random, names: int = 6, sizes: Sequence[int] = (1, 10, 100, 100, 700)) -> None:
        """``sizes``: the lengths of bodies in bytes."""
        self._random = random
        self._sizes = sizes
        self._names = [f"stream/{number}" for number in range(names)]
        self._count = 0

    def requests(self, storage: Storage) -> list[Request]:
        return [self._request(storage) for _ in range(self._random.choice((1, 1, 2, 5)))]

    def _request(self, storage: Storage) -> Request:
        random = self._random
        self._count += 1
        name = random.choice(self._names)
        state = storage.known(name)
        kind = random.random()
        if state is None or kind < 0.05:
            return self._create(storage, name)
        uid = state.config.uid
        if kind < 0.12:
            return Remove(name)
        if kind < 0.17:
            return AddFork(name, uid, f"fork {self._count}", "fork")
        if kind < 0.22:
            return RemoveFork(name, uid, random.choice([*state.forks, "none"]))
        if kind < 0.27:
            return Touch(name, uid, 1000.0 + self._count)
        producer = None
        if kind < 0.6:
            known = state.producers.get("producer")
            producer = Producer("producer", 0, known.seq + 1 if known else 0)
        stream_seq = f"{self._count:06d}" if kind < 0.4 else None
        body = self._body()
        return append(name, body, close=kind > 0.95, producer=producer, stream_seq=stream_seq)

    def _create(self, storage: Storage, name: str) -> Create:
        random = self._random
        source = storage.known(random.choice(self._names))
        point = None
        if source is not None and source.name != name and random.random() < 0.3:
            position = random.randint(source.config.forked_at, source.tail)
            point = ForkPoint(source.name, source.config.uid, position, position, 0, True, 1)
        expiry = random.choice(
            (NO_EXPIRY, Expiry(ttl_s=60), Expiry(expires_at=5000.0, expires_at_text="then"))
        )
        body = random.choice((b"", self._body()))
        return create(name, body, uid=f"{name} {self._count}", expiry=expiry, fork_point=point)

    def _body(self) -> bytes:
        return self._random.randbytes(self._random.choice(self._sizes))


def copy_of(data_dir: Path, target: Path) -> Path:
    """The directory as the death of its process would leave it now."""
    shutil.copytree(data_dir, target)
    return target


def flip(path: Path, position: int) -> None:
    """Change one byte of a file."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x41]))


def files_of(data_dir: Path) -> dict[str, bytes]:
    """Every file, but for the locks."""
    paths = [
        path
        for path in data_dir.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != "lock"
    ]
    return {str(path.relative_to(data_dir)): path.read_bytes() for path in paths}


def read_all(storage: Storage, name: str) -> bytes:
    """All local bytes of a stream."""
    state = storage.known(name)
    assert state is not None
    return storage.read(state, state.config.forked_at, state.tail)
