"""Power cuts at every moment of a run: what is left can be opened, and holds what was promised and nothing torn."""

from __future__ import annotations

import logging
from pathlib import Path
from random import Random

import pytest

from durable_streams.storage.contract import Storage
from tests.disk.history import POLICIES, History
from tests.disk.recording import HastyDisk, RecordingDisk
from tests.engines.driving import Contents, Model, append, contents, create, decide, record
from tests.engines.engine import Engine

BATCHES = 36


class Run:
    """A run of a storage with everything that reached the disk, and the contents after each commit."""

    def __init__(self, engine: Engine, tmp_path: Path, seed: int) -> None:
        self.history = History()
        self.random = Random(seed)
        self._engine = engine
        data_dir = tmp_path / "recorded"
        storage = engine.build(data_dir, RecordingDisk(data_dir, self.history))
        storage.open()
        self._drive(storage)
        storage.close()

    def _drive(self, storage: Storage) -> None:
        script, model = self._engine.script(self.random), Model()
        self.after: list[Contents] = [{}]
        for number in range(BATCHES):
            changes = decide(storage, script.requests(storage), 1000.0 + number)
            for shard, part in self._engine.parts(storage, changes):
                model.apply(part)
                self.after.append(model.copy())
                self.history.note("asked")
                record(storage, part, shard)
                self.history.note("answered")
            if number % 9 == 4:
                self._engine.checkpoint(storage)
                self.history.note("synced")
            if number % 9 == 8:
                self._engine.pack(storage)
                self.history.note("synced")

    def check(self, length: int, policy: str, target: Path) -> None:
        """The directory left by a cut after ``length`` events holds a moment of the run that it may hold."""
        target.mkdir()
        self.history.crash(length, policy, self.random, target)
        storage = self._engine.build(target, HastyDisk())
        storage.open()
        found = contents(storage)
        notes = list(self.history.notes(length))
        least = self._promised(notes, policy)
        assert found in self.after[least : notes.count("asked") + 1]
        self._go_on(storage, found)
        storage.close()

    def check_second_life(self, length: int, policy: str, target: Path) -> None:
        """The process is killed after ``length`` events; the power fails while the next one serves what is left."""
        first, second = list(self.history.notes(length)), self.history.until(length)
        target.mkdir()
        second.crash(length, "kept", self.random, target)
        shown = self._serve(target, second)
        for moment in second.before_syncs(length):
            left = target.with_name(f"{target.name}-{moment}")
            left.mkdir()
            second.crash(moment, policy, self.random, left)
            found = self._engine.contents(left)
            count = list(second.notes(moment)).count("shown")
            if count:
                assert found in shown[count - 1 if self._engine.is_durable else 0 :]
            else:
                assert found in self.after[self._promised(first, policy) : first.count("asked") + 1]

    def _serve(self, target: Path, history: History) -> list[Contents]:
        """Open what is left, and go on writing to it; everything that was served, one after the other."""
        with self._engine.opened(target, RecordingDisk(target, history)) as storage:
            shown = [contents(storage)]
            history.note("shown")
            for request in (create("later", b"and "), append("later", b"more")):
                self._engine.commit(storage, request)
                shown.append(contents(storage))
                history.note("shown")
                self._engine.checkpoint(storage)
        return shown

    def _promised(self, notes: list[str], policy: str) -> int:
        """How many commits must be there."""
        if self._engine.is_durable or policy == "kept":
            return notes.count("answered")
        synced = [place for place, note in enumerate(notes) if note == "synced"]
        return notes[: synced[-1]].count("answered") if synced else 0

    def _go_on(self, storage: Storage, found: Contents) -> None:
        """It can be written to and opened again."""
        self._engine.commit(storage, create("later", b"and "), append("later", b"more"))
        storage.close()
        storage.open()
        assert {name: held for name, held in contents(storage).items() if name != "later"} == found
        assert contents(storage)["later"][1] == b"and more"


@pytest.fixture
def run(engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Run:
    """A new one, with requests that are drawn at random."""
    caplog.set_level(logging.CRITICAL)
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    return Run(engine, tmp_path, seed)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_power_cut_at_any_moment_loses_nothing_promised_and_tears_nothing(
    run: Run, tmp_path: Path, policy: str
) -> None:
    kinds = [event.kind for event in run.history.events]
    assert kinds.count("rename") >= 8, "there are packs, and checkpoints or indexes, in the run"
    for length in range(len(run.history) + 1):
        try:
            run.check(length, policy, tmp_path / f"cut-{length}")
        except BaseException:
            print(f"after {length} events of {len(kinds)}: {kinds[:length][-5:]}")
            raise


def test_what_a_killed_process_had_not_synced_is_as_durable_as_all_else_once_it_is_served(
    run: Run, tmp_path: Path
) -> None:
    for length in run.history.moments(run.random):
        policy = run.random.choice(("dropped", "reordered"))
        print(
            f"killed after {length} events, the last a {run.history.events[length - 1].kind}; then {policy}"
        )
        run.check_second_life(length, policy, tmp_path / f"killed-{length}")
