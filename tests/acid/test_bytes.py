"""Where the bytes of a stream lie is nobody's business: whatever is appended, every slice of it is read back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from durable_streams.protocol.requests import Remove
from durable_streams.protocol.state import (
    NO_EXPIRY,
    ForkPoint,
    ForkReference,
    ProducerState,
    StreamConfig,
    StreamState,
)
from durable_streams.storage.contract import Change
from durable_streams.storage.zodb import AcidStorage
from durable_streams.storage.zodb.model import (
    GROWING_BYTES_MAX,
    INLINE_BYTES_MAX,
    INLINE_ENTRIES_MAX,
    SEGMENT_BYTES,
    Chunk,
    Head,
)
from tests.acid.driving import QUIET, commit, opened
from tests.contract.shared_storage import changed_entries
from tests.disk.recording import HastyDisk
from tests.engines.driving import append, create, read_all, record

EDGES = (INLINE_BYTES_MAX, GROWING_BYTES_MAX, SEGMENT_BYTES, 2 * SEGMENT_BYTES)


@pytest.fixture(params=["file", "in-memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AcidStorage]:
    built = AcidStorage(tmp_path / "data", 1, request.param, disk=HastyDisk(), tuning=QUIET)
    built.open()
    yield built
    built.close()


def check_slices(storage: AcidStorage, held: bytes, random: Random, base: int = 0) -> None:
    state = storage.known("s")
    assert state is not None
    assert state.tail == base + len(held)
    assert storage.read(state, base, state.tail) == held
    for _ in range(10):
        start = random.randint(0, len(held))
        stop = random.randint(start, len(held))
        assert storage.read(state, base + start, base + stop) == held[start:stop]


def test_random_appends_are_read_back_slice_by_slice(storage: AcidStorage) -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    random, held = Random(seed), b""
    commit(storage, create("s"))
    for _ in range(300):
        size = random.choice((1, 50, 200, 1000, 3000, random.choice(EDGES) + random.randint(-2, 2)))
        bodies = [random.randbytes(size) for _ in range(random.choice((1, 1, 3)))]
        commit(storage, *(append("s", body) for body in bodies))
        held += b"".join(bodies)
        if random.random() < 0.2:
            check_slices(storage, held, random)
    check_slices(storage, held, random)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_appends_that_end_at_the_edge_of_a_home_are_read_back(
    storage: AcidStorage, edge: int, off: int
) -> None:
    random = Random(edge + off)
    first, second = random.randbytes(edge + off), random.randbytes(3)
    commit(storage, create("s", first))
    check_slices(storage, first, random)
    commit(storage, append("s", second))
    check_slices(storage, first + second, random)


def test_an_append_of_megabytes_is_one_transaction_of_many_segments(storage: AcidStorage) -> None:
    body = Random(1).randbytes(5_000_000)
    commit(storage, create("s"), append("s", body))
    check_slices(storage, body, Random(2))


def test_the_bytes_of_a_fork_begin_at_its_base(storage: AcidStorage) -> None:
    base, random = 3 * SEGMENT_BYTES + 7, Random(3)
    point = ForkPoint("source", "i", base, base, 0, True, 1)
    commit(storage, create("s", fork_point=point))
    held = b""
    for size in (10, 3000, 20_000, 70_000, 1):
        body = random.randbytes(size)
        commit(storage, append("s", body))
        held += body
        check_slices(storage, held, random, base)


def test_a_new_stream_of_an_old_name_has_nothing_of_the_old_bytes(storage: AcidStorage) -> None:
    commit(storage, create("s", bytes(200_000)))
    commit(storage, Remove("s"), create("s", b"new", uid="second"))
    assert read_all(storage, "s") == b"new"  # type: ignore[arg-type]


def test_the_chunks_of_an_older_head_are_read_and_become_part_of_a_segment() -> None:
    random = Random(4)
    sealed, chunks, inline = random.randbytes(70_000), [random.randbytes(n) for n in (3000, 9000)], b"inline"
    held = b"".join((sealed, *chunks, inline))
    old = Head(_state(len(held)))
    old._seal(sealed)
    old.chunks, old.lengths = tuple(map(Chunk, chunks)), tuple(map(len, chunks))
    old.inline_bytes = inline
    old.record(_state(len(held)))
    head = Head(_state(0))
    head.__setstate__(old.__getstate__())
    assert head.state().tail == len(held)
    assert head.read(69_000, 80_000) == held[69_000:80_000]
    assert head.append([b"x"]) == ()
    assert set(head.append([bytes(5000)])) >= set(old.chunks)
    assert not head.chunks
    assert head.read(0, head.stop) == held + b"x" + bytes(5000)


def _state(tail: int, **more: object) -> StreamState:
    config = StreamConfig("s", "i", "text/plain", NO_EXPIRY, None, 1)
    return replace(StreamState(config, tail=tail, touched_at=1.0), **more)


@pytest.mark.parametrize("count", [INLINE_ENTRIES_MAX, INLINE_ENTRIES_MAX + 1, 1000])
def test_many_producers_and_references_come_grow_change_and_go(tmp_path: Path, count: int) -> None:
    def producers(numbers: range, seq: int) -> dict[str, ProducerState]:
        return {f"producer {number}": ProducerState(1, seq, 1) for number in numbers}

    def references(numbers: range) -> dict[str, ForkReference]:
        return {f"uid {number}": ForkReference(f"fork {number}", number) for number in numbers}

    few, many = producers(range(3), 0), producers(range(count), 5)
    moved = many | producers(range(7), 6)
    fewer = {id: state for id, state in moved.items() if not id.endswith("2")}
    states = [
        _state(0, producers=few),
        _state(0, producers=many, forks=references(range(count))),
        _state(0, producers=moved, forks=references(range(2, count + 2))),
        _state(0, producers=fewer, forks=references(range(4))),
        _state(0, producers=few),
    ]
    before = None
    for state in states:
        with opened(tmp_path / "data") as storage:
            record(storage, [Change(before, state, entries=changed_entries(before, state))])
        with opened(tmp_path / "data") as storage:
            found = storage.known("s")
            assert found is not None
            pairs = {id: (each.epoch, each.seq) for id, each in found.producers.items()}
            assert pairs == {id: (each.epoch, each.seq) for id, each in state.producers.items()}
            assert dict(found.forks) == dict(state.forks)
        before = state


def test_producers_of_their_own_tree_do_not_make_every_append_larger(tmp_path: Path) -> None:
    many = {f"producer {number}": ProducerState(1, 5, 1) for number in range(5000)}
    with opened(tmp_path / "data") as storage:
        state = _state(0, producers=many)
        record(storage, [Change(None, state)])
        size = storage._shards[0].storage.getSize()
        after = replace(state, tail=1, producers=many | {"producer 7": ProducerState(1, 6, 1)})
        record(storage, [Change(state, after, [b"x"], ("producer 7",))])
        assert storage._shards[0].storage.getSize() - size < 5000
