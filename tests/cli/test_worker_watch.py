"""A silent worker is ended; one that could not run because nothing ran is not."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from durable_streams.serving import worker_watch
from durable_streams.serving.worker_watch import WorkerWatch

PID = 7
TIMEOUT = 120


class Scene:
    """A master that looks once a second, with one worker, and a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.sign = 0.0
        self.killed: list[int] = []
        monkeypatch.setattr(worker_watch, "monotonic", lambda: self.now)
        self.worker: Any = SimpleNamespace(aborted=False, tmp=SimpleNamespace(last_update=lambda: self.sign))
        self.arbiter: Any = SimpleNamespace(
            WORKERS={PID: self.worker},
            timeout=TIMEOUT,
            log=SimpleNamespace(critical=lambda *args: None),
            kill_worker=lambda pid, number: self.killed.append(number),
        )
        self._watch = WorkerWatch(self.arbiter)

    def pass_rounds(self, count: int, *, signs: bool) -> None:
        for _ in range(count):
            self.now += 1.0
            if signs:
                self.sign = self.now
            self._watch.end_silent()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_a_silent_worker_is_asked_to_end_and_then_killed(scene: Scene) -> None:
    scene.pass_rounds(3, signs=True)
    scene.pass_rounds(TIMEOUT, signs=False)
    assert scene.killed == []
    scene.pass_rounds(2, signs=False)
    assert scene.killed == [signal.SIGABRT, signal.SIGKILL]


@pytest.mark.parametrize("pause", [TIMEOUT + 1, 86_400])
def test_time_in_which_nothing_ran_does_not_count(scene: Scene, pause: int) -> None:
    for _ in range(5):
        scene.pass_rounds(3, signs=True)
        scene.now += pause
        # The master is first to run again.
        scene.pass_rounds(3, signs=False)
    assert scene.killed == []


def test_signs_begin_the_count_anew(scene: Scene) -> None:
    for _ in range(5):
        scene.pass_rounds(TIMEOUT - 1, signs=False)
        scene.pass_rounds(1, signs=True)
    assert scene.killed == []


def test_no_timeout_ends_nobody(scene: Scene) -> None:
    scene.arbiter.timeout = 0
    scene.pass_rounds(10_000, signs=False)
    assert scene.killed == []


def test_a_new_worker_has_all_of_its_time(scene: Scene) -> None:
    scene.pass_rounds(TIMEOUT, signs=False)
    scene.arbiter.WORKERS = {PID + 1: scene.worker}
    scene.pass_rounds(TIMEOUT, signs=False)
    assert scene.killed == []
