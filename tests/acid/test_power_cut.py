"""Power cuts at every moment of a run: what is left can be opened, and holds what was promised and nothing torn."""

from __future__ import annotations

import logging
from pathlib import Path
from random import Random

import pytest

from durable_streams.storage.zodb import AcidStorage
from tests.acid.driving import LargeBodies, build, by_shard, commit, opened, pack_all
from tests.disk.history import POLICIES, History
from tests.disk.recording import RecordingDisk
from tests.files.driving import Contents, Model, append, contents, create, decide, record

BATCHES = 24
SHARDS = 2


class Run:
    """A run of a storage with everything that reached the disk, and the contents after each transaction."""

    def __init__(self, tmp_path: Path, seed: int) -> None:
        self.history = History()
        self.random = Random(seed)
        data_dir = tmp_path / "recorded"
        storage = build(data_dir, SHARDS, disk=RecordingDisk(data_dir, self.history))
        storage.open()
        self._drive(storage)
        storage.close()

    def _drive(self, storage: AcidStorage) -> None:
        script, model = LargeBodies(self.random), Model()
        self.after: list[Contents] = [{}]
        for number in range(BATCHES):
            for shard, changes in by_shard(storage, decide(storage, script.requests(storage), 1000.0)):
                model.apply(changes)
                self.after.append(model.copy())
                self.history.note("asked")
                record(storage, changes, shard)
                self.history.note("answered")
            if number % 8 == 3:
                for background in storage._background.shards:
                    background.save_index()
            if number % 8 == 7:
                pack_all(storage)

    def check(self, length: int, policy: str, target: Path) -> None:
        """The directory left by a cut after ``length`` events holds a moment of the run that it may hold."""
        target.mkdir()
        self.history.crash(length, policy, self.random, target)
        storage = build(target, SHARDS)
        storage.open()
        found = contents(storage)
        notes = list(self.history.notes(length))
        assert found in self.after[notes.count("answered") : notes.count("asked") + 1]
        commit(storage, create("later", b"and "), append("later", b"more"))
        storage.close()
        storage.open()
        assert {name: held for name, held in contents(storage).items() if name != "later"} == found
        state = storage.known("later")
        assert state is not None
        assert storage.read(state, 0, state.tail) == b"and more"
        storage.close()

    def check_second_life(self, length: int, policy: str, target: Path) -> None:
        """The process is killed after ``length`` events; the power fails while the next one serves what is left."""
        first, second = list(self.history.notes(length)), self.history.until(length)
        target.mkdir()
        second.crash(length, "kept", self.random, target)
        storage = build(target, SHARDS, disk=RecordingDisk(target, second))
        storage.open()
        shown = [contents(storage)]
        second.note("shown")
        for request in (create("later", b"and "), append("later", b"more")):
            commit(storage, request)
            shown.append(contents(storage))
            second.note("shown")
        storage.close()
        for moment in second.before_syncs(length):
            left = target.with_name(f"{target.name}-{moment}")
            left.mkdir()
            second.crash(moment, policy, self.random, left)
            with opened(left, SHARDS) as storage:
                found = contents(storage)
            count = list(second.notes(moment)).count("shown")
            if count:
                assert found in shown[count - 1 :]
            else:
                assert found in self.after[first.count("answered") : first.count("asked") + 1]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_power_cut_at_any_moment_loses_nothing_promised_and_tears_nothing(
    tmp_path: Path, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    run = Run(tmp_path, seed)
    kinds = [event.kind for event in run.history.events]
    assert kinds.count("rename") > 2 * SHARDS, "there are packs and indexes in the run"
    for length in range(len(run.history) + 1):
        try:
            run.check(length, policy, tmp_path / f"cut-{length}")
        except BaseException:
            print(f"after {length} events of {len(kinds)}: {kinds[:length][-5:]}")
            raise


def test_what_a_killed_process_had_not_synced_is_as_durable_as_all_else_once_it_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    run = Run(tmp_path, seed)
    for length in run.history.moments(run.random):
        policy = run.random.choice(("dropped", "reordered"))
        print(
            f"killed after {length} events, the last a {run.history.events[length - 1].kind}; then {policy}"
        )
        run.check_second_life(length, policy, tmp_path / f"killed-{length}")
