"""Copying between storages: everything is as it was, an interrupted copy goes on, and nothing is written over."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from durable_streams.protocol.state import StreamState, evolve
from durable_streams.storage.contract import Change, Lost, Storage, Unit
from durable_streams.streams import copying
from durable_streams.streams.batch import Limits
from durable_streams.streams.copying import Copied, copy_streams, count_payload
from tests.contract.driving import KINDS, Kind, Streams, recorded, without_revisions
from tests.every_field import empty_state, full_state

BY_NAME = {kind.name: kind for kind in KINDS}
PAIRS = [
    *product(("file-durable", "acid", "postgres"), repeat=2),
    ("file-fast", "acid-3-shards"),
    ("acid-3-shards", "file-durable"),
    ("memory", "file-durable"),
]


CHANGE = b'{"headers":{"operation":"insert"}}'


class Interrupted(Exception):
    """The copy is killed here."""


class Pair:
    """A source with something of everything, and an empty target."""

    def __init__(self, kinds: tuple[Kind, Kind], folder: Path) -> None:
        self.source, self.target = (
            Streams(kind, folder / f"{number}", Limits()) for number, kind in enumerate(kinds)
        )
        fill(self.source)

    def copy(self, target: Storage | None = None) -> Copied:
        return copy_streams(self.source.storage, target or self.target.storage, lambda count: None)

    def check_same(self) -> None:
        assert without_revisions(self.target.contents()) == without_revisions(self.source.contents())


def fill(streams: Streams) -> None:
    """Producers, closures, deadlines, JSON, an empty stream, many small ones, a long one, forks of forks."""
    rng = random.Random(1)
    streams.create("plain", b"some text")
    streams.create("empty")
    streams.create("json", b'{"a":1}', "application/json")
    streams.append("json", b'{"b":2}', content_type="application/json")
    streams.create("long", rng.randbytes(3 * copying.PIECE_BYTES + 17), "application/octet-stream")
    streams.append("plain", b", more", producer=("writer-1", 4, 0))
    streams.append("plain", b", and more", producer=("writer-2", 0, 0), seq="007")
    streams.create("state", CHANGE, "application/json", message_offsets=True)
    streams.append("state", CHANGE, content_type="application/json")
    streams.create("with ttl", b"x", ttl=3600)
    streams.fork("fork", "plain", b"own", position=4)
    streams.fork("fork of fork", "fork", b"mine")
    streams.create("gone", b"read by its fork")
    streams.fork("heir", "gone")
    streams.remove("gone")
    streams.close_stream("empty")
    for number in range(1200):
        streams.create(f"many/{number:04d}", b"%d" % number)


@pytest.fixture(params=[pytest.param(pair, id="-to-".join(pair)) for pair in PAIRS])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    names: tuple[str, str] = request.param
    found = Pair((BY_NAME[names[0]], BY_NAME[names[1]]), tmp_path)
    yield found
    found.source.close()
    found.target.close()


@pytest.fixture
def memory(tmp_path: Path) -> Any:
    found = Pair((BY_NAME["memory"], BY_NAME["memory-queued"]), tmp_path)
    yield found
    found.source.close()
    found.target.close()


def test_a_copy_is_the_same_and_goes_on_as_the_source_would(pair: Pair) -> None:
    done = pair.copy()
    assert done.problems == []
    assert (done.streams, done.present) == (len(pair.source.contents()), 0)
    assert done.payload_bytes == count_payload(pair.source.storage) == count_payload(pair.target.storage)
    pair.check_same()
    if pair.target.is_durable:
        pair.target.reopen()
        pair.check_same()
    for streams in (pair.source, pair.target):
        again = streams.append("plain", b", and more", producer=("writer-2", 0, 0), seq="007")
        assert again.duplicate
        assert streams.append("plain", b"!", producer=("writer-1", 4, 1)).duplicate is False
        assert streams.read("fork of fork") == b"someownmine"
        assert streams.read("heir") == b"read by its fork"
        appended = streams.append("state", CHANGE, content_type="application/json")
        assert streams.read("state").count(appended.state.next_offset.encode()) == 1
        streams.remove("heir")
        assert "gone" not in streams.contents()
        assert streams.read("long") == pair.source.read("long")


def test_a_second_copy_has_nothing_to_do(memory: Pair) -> None:
    first = memory.copy()
    second = memory.copy()
    assert (second.streams, second.payload_bytes, second.problems) == (0, 0, [])
    assert second.present == first.streams


def test_no_field_of_a_state_is_lost(memory: Pair) -> None:
    """Nor is a difference in one overlooked when the copy is made again."""
    empty, full = empty_state(b"own"), full_state(b"own")
    storage = memory.source.storage
    storage.commit(storage.shard_of(full.name), [(Change(None, empty, [b"own"]),)], {})
    memory.copy()
    for each in fields(StreamState):
        if each.name not in ("config", "revision", "mark"):
            before = recorded(storage, full.name)
            assert before is not None
            value = getattr(full, each.name)
            more = [b"!"] if each.name == "tail" else []
            after = evolve(before, **{each.name: value + 1 if more else value})
            change = Change(before, after, more, (*after.producers, *after.forks))
            storage.commit(storage.shard_of(full.name), [(change,)], {})
            assert memory.copy().streams == 1, each.name
            memory.check_same()


def test_what_the_source_has_gained_since_is_added(memory: Pair) -> None:
    memory.copy()
    memory.source.append("plain", b" later", producer=("writer-3", 0, 0))
    memory.source.create("new", b"too")
    memory.source.close_stream("json")
    done = memory.copy()
    assert (done.streams, done.problems) == (3, [])
    memory.check_same()


def breaking(storage: Storage, after: int) -> Callable[..., Lost]:
    """``storage.commit`` that fails after so many calls."""
    commit, calls = storage.commit, iter(range(after))

    def commit_or_break(shard: int, units: Sequence[Unit], rests_on: Mapping[str, Any]) -> Lost:
        if next(calls, None) is None:
            raise Interrupted
        return commit(shard, units, rests_on)

    return commit_or_break


@pytest.mark.parametrize("kinds", [("memory", "memory-queued"), ("acid", "file-durable")], ids="-".join)
@pytest.mark.parametrize("commits", range(6))
def test_an_interrupted_copy_goes_on_where_it_ended(
    kinds: tuple[str, str], commits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Pair((BY_NAME[kinds[0]], BY_NAME[kinds[1]]), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(found.target.storage, "commit", breaking(found.target.storage, commits))
        with pytest.raises(Interrupted):
            found.copy()
    if found.target.is_durable:
        found.target.reopen()
    before = found.target.contents()
    whole = count_payload(found.source.storage)
    done = found.copy()
    assert done.problems == []
    assert done.payload_bytes == whole - sum(len(own) for _, own in before.values())
    found.check_same()
    found.source.close()
    found.target.close()


def test_another_stream_of_the_same_name_is_left_alone_and_named(memory: Pair) -> None:
    memory.target.create("plain", b"theirs")
    done = memory.copy()
    assert done.problems == ["plain: the target has another stream of this name"]
    assert memory.target.read("plain") == b"theirs"
    assert memory.target.read("json") == memory.source.read("json")


def test_a_target_that_was_used_meanwhile_is_named(memory: Pair) -> None:
    memory.copy()
    memory.target.append("plain", b"used")
    (problem,) = memory.copy().problems
    assert problem.startswith("plain: the target's stream is longer")
