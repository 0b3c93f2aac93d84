"""Quotas on what the streams of a prefix hold together: exact over every way that a stream changes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from durable_streams.config import Config
from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.names import is_reserved
from durable_streams.protocol.requests import Append, Create
from durable_streams.protocol.state import NO_EXPIRY
from durable_streams.storage.contract import Storage
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.storage.modes import mode_of
from durable_streams.streams.batch import Limits
from durable_streams.streams.limits.quotas import Quota, QuotaBudget
from durable_streams.streams.store import StreamStore
from tests.web.conftest import OpenServer
from tests.web.driving import CLOSE, TEXT, Server

QUOTAS = [
    {"prefix": "a/", "max_bytes": 10, "max_streams": 2},
    {"prefix": "a/b/", "max_bytes": 4},
]


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    return open_server(quotas={"by_prefix": QUOTAS})


def used(store: StreamStore) -> dict[str, tuple[int, int]]:
    budget = store.writes.budget
    assert isinstance(budget, QuotaBudget)
    return {use.quota.prefix: (use.bytes, use.streams) for use in budget.quotas.uses}


def test_bytes_are_counted_over_all_streams_of_a_prefix(server: Server) -> None:
    assert server.put("a/1", b"123456", TEXT).status_int == 201
    assert server.put("a/b/2", b"1234", TEXT).status_int == 201
    refused = server.post("a/1", b"x", TEXT)
    assert refused.status_int == 413
    assert refused.json["code"] == "QUOTA_REACHED"
    assert "'a/'" in refused.json["detail"]
    assert server.put("b", b"x" * 100, TEXT).status_int == 201
    assert used(server.store) == {"a/": (10, 2), "a/b/": (4, 1)}


def test_each_prefix_of_a_name_counts(server: Server) -> None:
    server.put("a/b/1", b"1234", TEXT)
    assert server.post("a/b/1", b"5", TEXT).status_int == 413
    assert server.put("a/2", b"123456", TEXT).status_int == 201


def test_streams_are_counted_and_a_deleted_one_makes_room(server: Server) -> None:
    server.put("a/1", b"", TEXT)
    server.put("a/2", b"1234567890", TEXT)
    refused = server.put("a/3", b"", TEXT)
    assert refused.status_int == 429
    assert refused.json["code"] == "LIMIT_REACHED"
    assert server.put("a/1", b"", TEXT).status_int == 200, "it is there already"
    assert server.delete("a/2").status_int == 204
    assert server.put("a/3", b"1234567890", TEXT).status_int == 201


def test_closing_and_deleting_are_never_refused(server: Server) -> None:
    server.put("a/1", b"1234567890", TEXT)
    assert server.post("a/1", b"", CLOSE).status_int == 204
    assert server.delete("a/1").status_int == 204


@pytest.mark.parametrize("mode", ["memory", "file-durable", "acid"])
def test_the_count_is_that_of_the_storage_whatever_happened(mode: str, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    storage = _storage(mode, tmp_path)
    store = _open(storage)
    names = ["a/1", "a/2", "a/b/1", "a/b/2", "c"]
    for _ in range(300):
        name = rng.choice(names)
        body = b"x" * rng.randrange(4)
        try:
            match rng.randrange(4):
                case 0:
                    store.create(Create(name, "text/plain", NO_EXPIRY, rng.random() < 0.1, body))
                case 1 | 2:
                    store.append(Append(name, "text/plain", body or b"y"))
                case 3:
                    store.remove(name)
        except ProtocolError:
            pass
        assert used(store) == _recounted(storage)
    if mode != "memory":
        before = used(store)
        store.close()
        store = _open(_storage(mode, tmp_path))
        assert used(store) == before, "counted again at the opening"
    store.close()


def _storage(mode: str, folder: Path) -> Storage:
    if mode == "memory":
        return InMemoryStorage()
    given: dict[str, Any] = {"mode": mode, "data_dir": folder}
    return mode_of(Config.model_validate({"storage": given}).storage).build(
        Config.model_validate({"storage": given})
    )


def _open(storage: Storage) -> StreamStore:
    limits = Limits(quotas=[Quota("a/", 10, 2), Quota("a/b/", 4, 0)])
    store = StreamStore(storage, limits)
    store.open()
    return store


def _recounted(storage: Storage) -> dict[str, tuple[int, int]]:
    states = [
        state
        for name in storage.names("", "", 1000)
        if not is_reserved(name) and (state := storage.known(name))
    ]
    found = {}
    for prefix in ("a/", "a/b/"):
        sizes = [state.own_bytes for state in states if state.name.startswith(prefix)]
        found[prefix] = sum(sizes), len(sizes)
    return found
