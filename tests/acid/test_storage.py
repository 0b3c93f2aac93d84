"""What an AcidStorage keeps beside bytes: names in order over all shards, deadlines that move lazily, its promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from durable_streams.protocol.requests import Remove, Touch
from durable_streams.protocol.state import Expiry, evolve
from durable_streams.storage.contract import Change, StaleChange
from durable_streams.storage.zodb import AcidStorage
from tests.acid.driving import QUIET, by_shard, commit, opened, script
from tests.disk.recording import HastyDisk
from tests.engines.driving import Model, append, contents, create, decide, read_all, record

TTL = Expiry(ttl_s=100)


@pytest.mark.parametrize("shard_count", [1, 3])
def test_random_requests_leave_what_the_model_says_also_after_reopening(
    tmp_path: Path, shard_count: int
) -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    made, model = script(Random(seed)), Model()
    for _ in range(6):
        with opened(tmp_path / "data", shard_count) as storage:
            assert contents(storage) == model.contents
            for number in range(40):
                changes = decide(storage, made.requests(storage), 1000.0 + number)
                model.apply(changes)
                for shard, part in by_shard(storage, changes):
                    record(storage, part, shard)
            assert contents(storage) == model.contents


def test_names_are_in_order_over_all_shards(tmp_path: Path) -> None:
    names = sorted(f"{folder}/{number:03d}" for folder in ("a", "b", "ü") for number in range(100))
    with opened(tmp_path / "data", 4) as storage:
        commit(storage, *(create(name) for name in names))
        assert storage.names("", "", 1000) == names
        assert storage.names("b/", "", 1000) == [name for name in names if name.startswith("b/")]
        assert storage.names("b/", "b/050", 3) == ["b/051", "b/052", "b/053"]
        assert storage.names("b/", "a/050", 1) == ["b/000"]
        assert storage.names("b/", "c", 10) == []
        assert storage.names("", "ü/098", 10) == ["ü/099"]


def test_a_stream_is_due_when_its_moved_deadline_comes_and_not_before(tmp_path: Path) -> None:
    with opened(tmp_path / "data", 2) as storage:
        commit(
            storage, create("ttl", expiry=TTL), create("other", expiry=Expiry(expires_at=1150.0)), now=1000.0
        )
        commit(storage, append("ttl", b"x"), now=1090.0)
        assert storage.due(1099.0, 10) == []
        assert storage.due(1140.0, 10) == []
        assert storage.due(1150.0, 10) == ["other"]
        commit(storage, append("ttl", b"x"), now=1180.0)
        assert storage.due(1200.0, 10) == ["other"]
        assert storage.due(1290.0, 10) == ["other", "ttl"]
        assert storage.due(1290.0, 1) == ["other"]
        commit(storage, Remove("other"), now=1149.0)
        assert storage.due(1290.0, 10) == ["ttl"]


def test_deadlines_are_found_after_reopening(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        commit(storage, *(create(f"{number}", expiry=TTL) for number in range(300)), now=1000.0)
        commit(storage, *(append(f"{number}", b"x") for number in range(0, 300, 2)), now=1050.0)
    with opened(tmp_path / "data") as storage:
        assert storage.due(1099.0, 1000) == []
        assert sorted(storage.due(1100.0, 1000)) == sorted(str(number) for number in range(1, 300, 2))
        assert len(storage.due(1150.0, 1000)) == 300


def test_a_deadline_that_moves_forward_is_not_missed(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        commit(storage, create("late", expiry=Expiry(expires_at=5000.0)), now=1000.0)
        assert storage.due(2000.0, 10) == []
        commit(
            storage,
            Remove("late"),
            create("late", expiry=Expiry(expires_at=1500.0), uid="2"),
            now=1000.0,
        )
        assert storage.due(2000.0, 10) == ["late"]


def test_a_touch_rewrites_no_entry_of_the_tree_of_deadlines_until_its_time_has_come(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s", expiry=TTL), now=1000.0)
        entries = lambda: storage._shards[0].queued(None, 1e9, 10)  # noqa: E731
        assert entries() == [(1100.0, "s")]
        commit(storage, append("s", b"x"), now=1099.0)
        assert entries() == [(1100.0, "s")]
        state = storage.known("s")
        assert state is not None
        commit(storage, Touch("s", state.config.uid, 1150.0), now=1150.0)
        assert entries() == [(1250.0, "s")]


def test_a_change_of_what_is_not_recorded_is_a_mistake_and_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s", b"abc"))
        state = storage.known("s")
        assert state is not None
        after = evolve(state, tail=4)
        for stale in (evolve(state), replace(state, config=replace(state.config, uid="other")), None):
            change = Change(stale, after, [b"d" if stale else b"abcd"])
            with pytest.raises(StaleChange):
                record(storage, [*decide(storage, [create("innocent")]), change])
            assert storage.names("", "", 10) == ["s"]
        assert read_all(storage, "s") == b"abc"
        commit(storage, append("s", b"d"))
        assert read_all(storage, "s") == b"abcd"


def test_in_memory_keeps_the_newest_revision_alone(tmp_path: Path) -> None:
    storage = AcidStorage(None, 1, "in-memory", disk=HastyDisk(), tuning=QUIET)
    storage.open()
    empty = storage._shards[0].storage.getSize()
    commit(storage, create("s"))
    for _ in range(2000):
        commit(storage, append("s", bytes(200)))
    assert storage._shards[0].storage.getSize() - empty < 2000 * 200 * 1.2
    commit(storage, Remove("s"))
    assert storage._shards[0].storage.getSize() - empty < 1000
    storage.close()


def test_the_backend_decides_whether_payload_counts_as_memory() -> None:
    file, memory = AcidStorage(Path("never"), 4), AcidStorage(None, backend="in-memory")
    assert (file.shards, file.commits_inline, file.counts_as_memory) == (4, False, False)
    assert (memory.shards, memory.commits_inline, memory.counts_as_memory) == (1, False, True)
    with pytest.raises(ValueError, match="needs a data directory"):
        AcidStorage(None)
