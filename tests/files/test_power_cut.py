"""Power cuts at every moment of a run: what is left can be opened, and holds what was promised and nothing torn."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from durable_streams.storage.files import FileStorage
from tests.disk.history import POLICIES, History
from tests.disk.recording import HastyDisk, RecordingDisk
from tests.files.driving import (
    SMALL,
    Contents,
    Model,
    Script,
    append,
    commit,
    contents,
    create,
    decide,
    opened,
    record,
)

BATCHES = 45


class Run:
    """A run of a storage with everything that reached the disk, and the contents after each batch."""

    def __init__(self, tmp_path: Path, durable: bool, seed: int) -> None:
        self.history = History()
        self.durable = durable
        self.random = Random(seed)
        data_dir = tmp_path / "recorded"
        storage = FileStorage(data_dir, durable, disk=RecordingDisk(data_dir, self.history), tuning=SMALL)
        storage.open()
        self._drive(storage)
        storage.close()

    def _drive(self, storage: FileStorage) -> None:
        script, model = Script(self.random), Model()
        self.after: list[Contents] = [{}]
        for number in range(BATCHES):
            changes = decide(storage, script.requests(storage), 1000.0 + number)
            if changes:
                model.apply(changes)
                self.after.append(model.copy())
                self.history.note("asked")
                record(storage, changes)
                self.history.note("answered")
            if number % 9 == 8:
                storage.checkpoint()
                self.history.note("synced")

    def check(self, length: int, policy: str, target: Path) -> None:
        """The directory left by a cut after ``length`` events holds a moment of the run that it may hold."""
        target.mkdir()
        self.history.crash(length, policy, self.random, target)
        storage = FileStorage(target, self.durable, disk=HastyDisk(), tuning=SMALL)
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
        storage = FileStorage(target, self.durable, disk=RecordingDisk(target, second), tuning=SMALL)
        storage.open()
        shown = [contents(storage)]
        second.note("shown")
        for request in (create("later", b"and "), append("later", b"more")):
            commit(storage, request)
            shown.append(contents(storage))
            second.note("shown")
            storage.checkpoint()
        storage.close()
        for moment in second.before_syncs(length):
            left = target.with_name(f"{target.name}-{moment}")
            left.mkdir()
            second.crash(moment, policy, self.random, left)
            with opened(left, self.durable, tuning=SMALL) as storage:
                found = contents(storage)
            count = list(second.notes(moment)).count("shown")
            if count:
                assert found in shown[count - 1 if self.durable else 0 :]
            else:
                assert found in self.after[self._promised(first, policy) : first.count("asked") + 1]

    def _promised(self, notes: list[str], policy: str) -> int:
        """How many batches must be there."""
        if self.durable or policy == "kept":
            return notes.count("answered")
        synced = [place for place, note in enumerate(notes) if note == "synced"]
        return notes[: synced[-1]].count("answered") if synced else 0

    def _go_on(self, storage: FileStorage, found: Contents) -> None:
        """It can be written to and opened again."""
        commit(storage, create("later", b"and "), append("later", b"more"))
        storage.close()
        storage.open()
        assert {name: held for name, held in contents(storage).items() if name != "later"} == found
        state = storage.known("later")
        assert state is not None
        assert storage.read(state, 0, state.tail) == b"and more"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("durable", [True, False], ids=["file-durable", "file-fast"])
def test_a_power_cut_at_any_moment_loses_nothing_promised_and_tears_nothing(
    tmp_path: Path, durable: bool, policy: str
) -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    run = Run(tmp_path, durable, seed)
    for length in range(len(run.history) + 1):
        try:
            run.check(length, policy, tmp_path / f"cut-{length}")
        except BaseException:
            print(
                f"after {length} events of {len(run.history)}: {[e.kind for e in run.history.events[:length]][-5:]}"
            )
            raise


@pytest.mark.parametrize("durable", [True, False], ids=["file-durable", "file-fast"])
def test_what_a_killed_process_had_not_synced_is_as_durable_as_all_else_once_it_is_served(
    tmp_path: Path, durable: bool
) -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    run = Run(tmp_path, durable, seed)
    for length in run.history.moments(run.random):
        policy = run.random.choice(("dropped", "reordered"))
        print(
            f"killed after {length} events, the last a {run.history.events[length - 1].kind}; then {policy}"
        )
        run.check_second_life(length, policy, tmp_path / f"killed-{length}")
