"""Every kind of storage, and a store over one of them that a test can drive in few words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import gevent
import pytest

from durable_streams.protocol.errors import ProtocolError, StreamDamaged
from durable_streams.protocol.expiry import RECORDED_PARTS
from durable_streams.protocol.offsets import Offset, format_offset, parse_offset
from durable_streams.protocol.outcomes import Appended, Created
from durable_streams.protocol.requests import Append, Create, ForkSource, Producer
from durable_streams.protocol.state import Expiry, StreamState
from durable_streams.storage.contract import Change, Lost, Storage, Unit
from durable_streams.storage.files import FileStorage
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.storage.postgres import PostgresOptions, PostgresStorage
from durable_streams.storage.rows import REVISION, to_row
from durable_streams.storage.zodb import AcidStorage
from durable_streams.streams.batch import Limits
from durable_streams.streams.reading import Page
from durable_streams.streams.store import StreamStore
from tests.clock import Clock
from tests.contract.shared_storage import SharedStorage, check_commit
from tests.postgres.cluster import shared_cluster

START = 1_800_000_000.0
SECONDS_MAX = 180.0
"""No wait of these tests is longer; none comes near it."""

T = TypeVar("T")


class QueuedMemory(InMemoryStorage):
    """Memory behind committers and in shards, as durable storages are: the pipeline without a disk."""

    commits_inline = False
    shards = 3

    def shard_of(self, name: str) -> int:
        return crc32(name.encode()) % self.shards

    def commit(self, shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]) -> Lost:
        # As the wait for a disk would, this lets others look and queue meanwhile.
        gevent.sleep(0)
        assert units
        assert not rests_on
        check_commit(self, shard, units, rests_on)
        return super().commit(shard, units, rests_on)


@dataclass(frozen=True)
class Kind:
    """A way to make a storage over a directory."""

    name: str
    build: Callable[[Path], Storage]
    is_durable: bool = False
    is_variant: bool = False
    """Everything of it that the contract can see is also in another kind, so `make test-long` alone takes it."""

    def param(self, *, is_long: bool = False) -> Any:
        """This kind as a parameter of a test or of a fixture."""
        marks = [pytest.mark.long] if self.is_variant or is_long else []
        return pytest.param(self, id=self.name, marks=marks)

    @property
    def storage(self) -> Storage:
        """One of them, not opened, to see what it promises; no database is started for it."""
        if self.build is postgres_in:
            return PostgresStorage(PostgresOptions(dsn=""))
        return self.build(Path("never-opened"))


def postgres_in(folder: Path) -> Storage:
    """A schema of its own for every folder; skips where PostgreSQL is not installed."""
    schema = f"s{sha256(str(folder).encode()).hexdigest()[:16]}"
    return PostgresStorage(PostgresOptions(shared_cluster().dsn, schema=schema))


KINDS = [
    Kind("memory", lambda folder: InMemoryStorage()),
    Kind("memory-queued", lambda folder: QueuedMemory()),
    Kind("file-fast", partial(FileStorage, durable=False), is_durable=True, is_variant=True),
    Kind("file-durable", partial(FileStorage, durable=True), is_durable=True),
    Kind("acid", AcidStorage, is_durable=True),
    Kind("acid-3-shards", partial(AcidStorage, shard_count=3), is_durable=True, is_variant=True),
    Kind("acid-in-memory", partial(AcidStorage, backend="in-memory"), is_variant=True),
    Kind("shared", lambda folder: SharedStorage()),
    Kind("postgres", postgres_in, is_durable=True),
]
DURABLE_KINDS = [kind for kind in KINDS if kind.is_durable]


def create_request(
    name: str = "s", body: bytes = b"", content_type: str | None = "text/plain", **more: Any
) -> Create:
    """``ttl``, ``expires_at``, ``closed``, ``message_offsets``; of a fork: ``source``, ``offset``, ``sub_offset``."""
    source = more.pop("source", None)
    fork = ForkSource(source, more.pop("offset", None), more.pop("sub_offset", 0)) if source else None
    expiry = Expiry(more.pop("ttl", None), more.pop("expires_at", None))
    closed, offsets = more.pop("closed", False), more.pop("message_offsets", None)
    assert not more
    return Create(name, content_type, expiry, closed, body, fork, message_offsets=offsets)


def append_request(
    name: str = "s",
    body: bytes = b"x",
    *,
    content_type: str = "text/plain",
    close: bool = False,
    seq: str | None = None,
    producer: tuple[str, int, int] | None = None,
) -> Append:
    return Append(name, content_type, body, close, seq, Producer(*producer) if producer else None)


class Streams:
    """A store over one storage. What is not named is text/plain, open, for ever, and called ``s``."""

    def __init__(self, kind: Kind, folder: Path, limits: Limits, *, reopens: bool = False) -> None:
        """``reopens``: close and open the storage after every change, so that nothing is left to memory."""
        self.clock = Clock(START)
        self.limits = limits
        self.announced: list[Change] = []
        self.wrap: Callable[[Storage], Storage] = lambda storage: storage
        self._kind = kind
        self._folder = folder
        self._reopens = reopens
        self.open()

    def open(self) -> None:
        self.storage = self.wrap(self._kind.build(self._folder))
        self.store = StreamStore(self.storage, self.limits, self.announced.extend, self.clock)
        self.store.open()

    @property
    def is_durable(self) -> bool:
        return self._kind.is_durable

    def reopen(self) -> None:
        """What a restart of the server does."""
        self.store.close()
        self.open()

    def close(self) -> None:
        self.store.close()

    def window(self, ttl_s: float) -> float:
        """After how many seconds a sliding window has run out.

        A process does not see the newest reads of the others that share its storage, and allows for them.
        """
        return ttl_s * (1 + 1 / RECORDED_PARTS) if self.storage.shared else ttl_s

    # -- changing ----------------------------------------------------------------------------------------------

    def create(self, *args: Any, **more: Any) -> Created:
        """The arguments are those of ``create_request``; ``position`` is that of the fork offset."""
        position = more.pop("position", None)
        if position is not None:
            more["offset"] = self.offset(more["source"], position)
        return self._then(self.store.create(create_request(*args, **more)))

    def fork(self, name: str, source: str = "s", body: bytes = b"", **more: Any) -> Created:
        """A fork with the content type of its source."""
        return self.create(name, body, None, source=source, **more)

    def append(self, *args: Any, **more: Any) -> Appended:
        """The arguments are those of ``append_request``."""
        return self._then(self.store.append(append_request(*args, **more)))

    def close_stream(self, name: str = "s") -> Appended:
        return self.append(name, b"", close=True)

    def remove(self, name: str = "s") -> None:
        self.store.remove(name)
        self._then(None)

    def sweep(self) -> int:
        return self._then(self.store.sweep())

    def _then(self, result: T) -> T:
        if self._reopens:
            self.reopen()
        return result

    # -- looking -----------------------------------------------------------------------------------------------

    def find(self, name: str = "s") -> StreamState:
        return self.store.find(name)

    def offset(self, name: str, position: int) -> Offset:
        """What clients of that stream have for ``position``; something in form where there is no such stream."""
        state = recorded(self.storage, name)
        text = format_offset(1, position) if state is None else self.store.offset_at(state, position)
        return parse_offset(text)

    def read(self, name: str = "s", start: int = 0, page_bytes: int = 1 << 20) -> bytes:
        """All stored bytes from ``start``, page by page."""
        return b"".join(page.data for page in self.pages(name, start, page_bytes))

    def pages(self, name: str, start: int, page_bytes: int) -> Iterable[Page]:
        while True:
            page = self.store.read(self.find(name), start, page_bytes)
            yield page
            if page.at_tail:
                return
            assert page.stop > start
            start = page.stop

    def contents(self) -> dict[str, tuple[Any, bytes]]:
        """Everything that is recorded: the row and the own bytes of every stream, soft-deleted ones too."""
        found: dict[str, tuple[Any, bytes]] = {}
        for name in self.storage.names("", "", 1_000_000):
            state = recorded(self.storage, name)
            assert state is not None
            found[name] = to_row(state), self.storage.read(state, state.config.forked_at, state.tail)
        return found


def recorded(storage: Storage, name: str) -> StreamState | None:
    """The state of a stream as it is recorded now."""
    found = storage.find([name])[name]
    if isinstance(found, StreamDamaged):
        raise found
    return found


def without_revisions(contents: Mapping[str, tuple[Any, bytes]]) -> dict[str, tuple[Any, bytes]]:
    """What has come and gone again between two looks leaves nothing but a higher revision."""
    return {name: ((*row[:REVISION], *row[REVISION + 1 :]), own) for name, (row, own) in contents.items()}


def all_at_once(*calls: Callable[[], T]) -> list[T | ProtocolError]:
    """The result or the refusal of every call, each made in a greenlet of its own."""

    def outcome(call: Callable[[], T]) -> T | ProtocolError:
        try:
            return call()
        except ProtocolError as refusal:
            return refusal

    with gevent.Timeout(SECONDS_MAX):
        greenlets = [gevent.spawn(outcome, call) for call in calls]
        gevent.joinall(greenlets, raise_error=True)
    return [greenlet.value for greenlet in greenlets]
