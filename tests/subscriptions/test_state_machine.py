"""Random lives of a subscription: appends, workers, failures and restarts in any order, and what must hold always.

STATE_MACHINE_EXAMPLES sets how many lives are led in `make test-long`; a failure prints how to repeat it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from durable_streams.protocol.subscriptions import events
from durable_streams.protocol.subscriptions.config import SubscriptionConfig, Wanted
from durable_streams.protocol.subscriptions.errors import SubscriptionError
from durable_streams.protocol.subscriptions.requests import (
    Ack,
    AddStreams,
    Bury,
    Claim,
    Confirm,
    Delete,
    Fail,
    Grant,
    Release,
    RemoveStream,
    Succeed,
    WakeUp,
)
from durable_streams.protocol.subscriptions.retrying import Step, next_step, resume
from durable_streams.protocol.subscriptions.state import Phase
from tests.subscriptions.scene import ID, Scene, offset_at, pull_wake, webhook

FEW = 25
MANY = int(os.environ.get("STATE_MACHINE_EXAMPLES", "150"))
PATHS = st.sampled_from(["events/a", "events/b", "manual/c", "wake/pool", "dead"])
CONFIGS: dict[str, Callable[[], SubscriptionConfig]] = {
    "pull-wake": lambda: pull_wake(pattern="**", streams=("manual/c",)),
    "webhook": lambda: webhook(pattern="**", on_close=True),
    "webhook with dead letters": lambda: webhook(max_attempts=2, dead_letter_stream="dead"),
    "pull-wake with dead letters": lambda: pull_wake(max_attempts=2, dead_letter_stream="dead"),
    "pull-wake from the beginning": lambda: pull_wake(start="beginning"),
}


class Lives(RuleBasedStateMachine):
    """``config`` is set by the test. ``told`` is what workers have been given, however long ago."""

    config: Callable[[], SubscriptionConfig]

    @initialize()
    def begin(self) -> None:
        self.scene = Scene(self.config())
        self.scene.create("events/a", 20)
        self.scene.subscribe()
        self.told: list[tuple[int, str]] = []
        self.generations: list[int] = []
        self.highest: dict[tuple[str, str], int] = {}
        self.was_set_back = False

    # -- the world ---------------------------------------------------------------------------------------------

    @rule(path=PATHS, size=st.integers(0, 3), close=st.booleans())
    def append(self, path: str, size: int, close: bool) -> None:
        stream = self.scene.streams.get(path)
        if stream is None or not stream.closed:
            self.scene.append(path, size, close=close and size < 2)

    @rule(path=PATHS)
    def delete_a_stream(self, path: str) -> None:
        self.scene.streams.pop(path, None)

    @rule(seconds=st.sampled_from([0.5, 5, 29, 31, 100]))
    def wait(self, seconds: float) -> None:
        self.scene.now += seconds

    @rule(seconds=st.sampled_from([0, 10, -5000, 5000]))
    def restart(self, seconds: float) -> None:
        """A crash keeps what was durable, which is every event; the clock may be another one afterwards."""
        self.scene.now += seconds
        self.was_set_back |= seconds < 0
        again = self.scene.again()
        if again is not None:
            resume(again, self.scene.now)
        self.scene.found = again

    # -- the control plane -------------------------------------------------------------------------------------

    def ask(self, request: Any) -> None:
        """A refusal changes nothing."""
        before = self.scene.found.copy() if self.scene.found else None
        try:
            self.scene.do(request)
        except SubscriptionError:
            assert self.scene.found == before

    @rule(path=PATHS)
    def add_a_stream(self, path: str) -> None:
        self.ask(AddStreams((path,), 10))

    @rule(path=PATHS)
    def remove_a_stream(self, path: str) -> None:
        self.ask(RemoveStream(path))

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.ask(Confirm(Wanted(self.scene.config, paused)))

    @rule(sure=st.integers(0, 9))
    def delete_and_create_again(self, sure: int) -> None:
        if sure or self.scene.found is None:
            return
        deleted = self.scene.do(Delete()).events[0]
        assert isinstance(deleted, events.Deleted)
        self.highest.clear()
        self.scene.subscribe(deleted.generation)

    # -- workers -----------------------------------------------------------------------------------------------

    def note_the_wake(self) -> None:
        wake = self.scene.sub.wake
        if wake is not None:
            self.told.append((wake.generation, wake.id))

    @rule(worker=st.sampled_from(["one", "two"]))
    def claim(self, worker: str) -> None:
        self.ask(Claim(worker, f"c_{len(self.scene.log)}"))
        self.note_the_wake()

    @precondition(lambda self: self.told)
    @rule(
        which=st.integers(0, 3),
        path=PATHS,
        part=st.sampled_from([0, 1, 2]),
        done=st.booleans(),
        release=st.integers(0, 4),
    )
    def answer(self, which: int, path: str, part: int, done: bool, release: int) -> None:
        """By a worker of this wake, or of an earlier one."""
        generation, wake_id = self.told[-1 - min(which, len(self.told) - 1)]
        grant = Grant(ID, generation)
        if not release:
            self.ask(Release(grant, wake_id, generation))
            return
        stream = self.scene.streams.get(path)
        acks = ((path, offset_at(stream, stream.tail * part // 2)),) if stream else ()
        self.ask(Ack(grant, wake_id, generation, acks, done, callback=not self.scene.sub.pulls))

    # -- the dispatcher ----------------------------------------------------------------------------------------

    def due(self) -> Step:
        step = next_step(self.scene.sub, self.scene.now - 1 if self.scene.situation().behind else None)
        return step.step if step.at <= self.scene.now else Step.REST

    @rule(outcome=st.sampled_from(["done", "taken", "failed", "crashed"]))
    def dispatch(self, outcome: str) -> None:
        """Do what is due, unless a crash comes before the result is known."""
        scene = self.scene
        match self.due():
            case Step.WAKE_UP:
                scene.wake_up()
                self.note_the_wake()
            case Step.EXPIRE:
                scene.expire()
            case Step.DELIVER if outcome != "crashed":
                scene.attempt()
                self.deliver(outcome)
            case Step.BURY if outcome != "crashed":
                scene.do(Bury(scene.wake.id) if outcome == "done" else Fail(scene.wake.id, "full"))

    def deliver(self, outcome: str) -> None:
        scene = self.scene
        if outcome == "failed":
            scene.fail()
        elif not scene.sub.pulls:
            scene.succeed(done=outcome == "done")

    @precondition(lambda self: self.told)
    @rule(which=st.integers(1, 3), done=st.booleans())
    def late_result(self, which: int, done: bool) -> None:
        """Of a delivery whose wake is over: it decides nothing."""
        _, wake_id = self.told[-1 - min(which, len(self.told) - 1)]
        wake = self.scene.sub.wake
        if wake is not None and wake.id == wake_id:
            return
        assert self.scene.do(Succeed(wake_id, done, self.scene.now)).events == ()
        assert self.scene.do(Fail(wake_id, "late")).events == ()

    # -- what must hold ----------------------------------------------------------------------------------------

    @invariant()
    def generations_are_never_used_twice(self) -> None:
        woken = [event.generation for event in self.scene.log if isinstance(event, events.Woken)]
        assert woken == list(range(1, len(woken) + 1))
        assert len({event.wake_id for event in self.scene.log if isinstance(event, events.Woken)}) == len(
            woken
        )

    @invariant()
    def cursors_never_fall_and_never_pass_the_tail(self) -> None:
        for path, link in self.scene.sub.links.items():
            stream = self.scene.streams.get(path)
            if stream is None or stream.config.uid != link.uid:
                continue
            assert self.highest.get((path, link.uid), 0) <= link.position <= stream.tail
            self.highest[path, link.uid] = link.position

    @invariant()
    def what_the_server_writes_is_never_pending(self) -> None:
        assert not set(self.scene.situation().behind) & set(self.scene.config.channels)

    @invariant()
    def a_restart_would_find_the_same(self) -> None:
        again, now = self.scene.again(), self.scene.sub.copy()
        assert again is not None
        if self.was_set_back and again.wake and now.wake:
            # Their times were bounded at different moments.
            again.wake.issued_at, again.wake.lease_until = now.wake.issued_at, now.wake.lease_until
            again.wake.next_attempt_at = now.wake.next_attempt_at
        assert again == now

    def teardown(self) -> None:
        """Whatever happened: when receivers and workers work again, all that is pending is acked in the end."""
        if not hasattr(self, "scene"):
            return
        scene = self.scene
        scene.do(Confirm(Wanted(scene.config, paused=False)))
        for _ in range(100):
            scene.now += 100
            step = self.due()
            if step is Step.REST:
                break
            if step is Step.WAKE_UP:
                scene.do(WakeUp(f"t_{len(scene.log)}"))
            elif step is Step.EXPIRE:
                scene.expire()
            elif step is Step.BURY:
                scene.bury()
            elif scene.sub.pulls:
                scene.claim()
                scene.ack(*((path, scene.tail_of(path)) for path in scene.situation().behind))
            else:
                scene.attempt()
                scene.succeed(done=True)
        assert (scene.sub.wake, dict(scene.situation().behind)) == (None, {})


@pytest.mark.parametrize(
    "examples", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_random_lives_keep_what_must_hold(config: Callable[[], SubscriptionConfig], examples: int) -> None:
    kind = type("Lives", (Lives,), {"config": staticmethod(config)})
    limits = settings(max_examples=examples, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(kind, settings=limits)


def test_a_wake_has_one_of_three_phases() -> None:
    assert {phase.value for phase in Phase} == {"waking", "held", "condemned"}
