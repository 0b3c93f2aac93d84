"""The failure windows of subscriptions, each cut at every moment: a killed process, and a power cut.

A story is played once over a disk that remembers everything; then, for each moment of it, what a crash would have
left is served again. `make test` tries a few moments of each story, `make test-long` all of them. CRASH_SEED repeats
the choices of a run, CRASH_SEEDS=50 makes them that many times.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durable_streams.subscriptions.compaction import compact
from tests.disk.history import POLICIES, History
from tests.subscriptions.driving import error_of
from tests.subscriptions.stories import HOOK, MODES, Mode, Story, check, facts_of

FEW = 4
SEEDS = int(os.environ.get("CRASH_SEEDS", "1"))
STORIES: dict[str, Callable[[Story], None]] = {}


def story(tell: Callable[[Story], None]) -> Callable[[Story], None]:
    STORIES[tell.__name__] = tell
    return tell


@story
def w01_an_append_before_its_wake_is_recorded(story: Story) -> None:
    story.subscribe()
    story.stall()
    story.append()
    story.append("events/b")
    story.append()


@story
def w02_a_wake_before_anybody_is_told(story: Story) -> None:
    story.subscribe()
    story.stall()
    story.append()
    story.record_wake()
    story.append()


@story
def w02_a_wake_before_the_webhook_is_sent(story: Story) -> None:
    story.subscribe(webhook=HOOK)
    story.stall()
    story.append()
    story.record_wake()
    story.append()
    story.go_on()


@story
def w03_a_wake_event_before_it_counts_as_delivered(story: Story) -> None:
    story.subscribe()
    story.append()
    story.settle()
    story.append()
    story.settle()
    events = story.server.messages("wake/pool")
    assert [event["generation"] for event in events] == [1]


@story
def w04_an_ack_before_its_answer(story: Story) -> None:
    story.subscribe()
    for _ in range(3):
        story.append()
        told = story.claim()
        story.append()
        assert story.ack(told).status_int == 200
        assert error_of(story.ack(told)) == (409, "FENCED")


@story
def w05_a_claim_and_its_heartbeats(story: Story) -> None:
    story.subscribe()
    story.append()
    told = story.claim()
    story.append("events/b")
    assert story.ack(told, done=False).status_int == 200
    assert story.ack(told, done=False).status_int == 200


@story
def w06_a_claim_that_takes_over_an_ended_lease(story: Story) -> None:
    story.subscribe(lease_ttl_ms=1000)
    story.append()
    old = story.claim()
    story.server.leases.ahead += 1.5
    new = story.claim()
    assert new["generation"] == old["generation"] + 1
    assert error_of(story.ack(old)) == (409, "FENCED")
    assert story.ack(new).status_int == 200


@story
def w07_streams_that_are_created_while_nobody_serves(story: Story) -> None:
    story.append("events/old")
    story.subscribe()
    story.restart(meanwhile=("events/new", "events/old"))
    told = story.claim()
    assert {stream["path"] for stream in told["streams"] if stream["has_pending"]} == {
        "events/new",
        "events/old",
    }
    assert story.ack(told).status_int == 200


@story
def w08_a_retry_of_a_wake_that_is_over(story: Story) -> None:
    story.posts = ["failed", "failed", "taken"]
    story.subscribe(webhook=HOOK)
    story.append()
    for seconds in (2, 4):
        story.advance(seconds)
    story.append("events/b")
    story.advance(100)
    story.advance(100)


@story
def w09_a_done_that_comes_when_its_lease_has_ended(story: Story) -> None:
    story.subscribe(webhook=HOOK, lease_ttl_ms=1000)

    def be_late(told: Any) -> str:
        story.history.note(("told", told["generation"], told["wake_id"]))
        acks = [(stream["path"], stream["tail_offset"]) for stream in told["streams"]]
        story.history.note(("asked", acks))
        if told["generation"] == 1:
            told["token"] = told["callback_token"]
            story.ack(told, action="/callback")
            story.append("events/b")
        return "done"

    from tests.subscriptions.stories import receive

    receive(story.server, be_late)
    story.append()
    story.settle()
    assert story.server.shown()["lag"]["streams"] == 0


@story
def w10_a_stream_that_is_deleted_and_created_again(story: Story) -> None:
    story.subscribe(streams=["manual/a"], pattern="events/*")
    for path in ("events/a", "manual/a"):
        story.append(path, "long" * 50)
    assert story.ack(story.claim()).status_int == 200
    for path in ("events/a", "manual/a"):
        story.delete(path)
        story.append(path)
    told = story.claim()
    assert [stream["has_pending"] for stream in told["streams"]] == [True, True]
    assert story.ack(told).status_int == 200


@story
def w11_a_clock_that_jumps(story: Story) -> None:
    story.subscribe(lease_ttl_ms=1000)
    story.append()
    story.server.leases.ahead += 86_400
    story.claim()
    story.restart()
    story.append()
    story.advance(1.5)
    assert story.ack(story.claim()).status_int == 200


@story
def w12_a_wake_stream_that_takes_nothing(story: Story) -> None:
    story.subscribe()
    story.server.delete("wake/pool")
    story.append()
    story.advance(2)
    story.advance(4)
    story.server.create("wake/pool")
    story.advance(100)
    assert [event["generation"] for event in story.server.messages("wake/pool")] == [1]
    assert story.ack(story.claim()).status_int == 200


@story
def w13_a_stream_that_expires(story: Story) -> None:
    story.subscribe()
    story.server.create("events/brief", "x", **{"Stream-TTL": "1"})
    story.append()
    clock = story.server.store._pipeline.clock
    story.server.store._pipeline.clock = lambda: clock() + 5
    story.server.store.sweep()
    story.settle()
    assert story.ack(story.claim()).status_int == 200


@story
def deleting_and_creating_again(story: Story) -> None:
    story.subscribe()
    story.append()
    old = story.claim()
    story.delete_subscription()
    story.subscribe()
    story.append()
    new = story.claim()
    assert new["generation"] == 2
    assert error_of(story.ack(old)) == (409, "FENCED")
    assert story.ack(new).status_int == 200


@story
def beginning_a_history_anew(story: Story) -> None:
    story.subscribe()
    for number in range(6):
        story.append(f"events/{number}")
        assert story.ack(story.claim()).status_int == 200
    story.settle()
    tracked = story.server.tracked()
    tracked.snapshot_bytes = -1_000_000
    compact(story.server.registry, tracked)
    story.append()
    assert story.ack(story.claim()).status_int == 200


@story
def dead_letters(story: Story) -> None:
    story.server.create("dead")
    story.posts = ["failed"] * 2
    story.subscribe(webhook=HOOK, max_attempts=2, dead_letter_stream="dead")
    story.append()
    story.history.note(("asked", [("events/a", "9")]))
    story.advance(10)
    story.append("events/b")
    story.settle()
    assert len(story.server.messages("dead")) == 1


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"CRASH_SEED={seed}")
    return random.Random(seed)


def play(tell: Callable[[Story], None], mode: Mode, folder: Path) -> History:
    history = History()
    told = Story(mode, folder, history)
    try:
        tell(told)
        told.settle()
    finally:
        told.close()
    return history


@pytest.mark.parametrize(
    "mode",
    [MODES[0], *(pytest.param(mode, marks=pytest.mark.long) for mode in MODES[1:])],
    ids=lambda mode: mode.name,
)
@pytest.mark.parametrize("tell", STORIES.values(), ids=STORIES.keys())
@pytest.mark.parametrize(
    "all_moments", [False, pytest.param(True, marks=pytest.mark.long)], ids=["few", "all"]
)
def test_no_crash_loses_a_wake_moves_a_cursor_back_or_repeats_a_generation(
    tell: Callable[[Story], None], mode: Mode, all_moments: bool, rng: random.Random, tmp_path: Path
) -> None:
    history = play(tell, mode, tmp_path / "played")
    policies = POLICIES if mode.cuts else ("kept",)
    moments = [(length, policy) for length in range(len(history) + 1) for policy in policies]
    if not all_moments:
        moments = [moment for _ in range(SEEDS) for moment in rng.sample(moments, min(FEW, len(moments)))]
    for number, (length, policy) in enumerate(moments):
        left = tmp_path / f"left-{number}"
        left.mkdir()
        history.crash(length, policy, rng, left)
        try:
            check(mode, left, facts_of(history.notes(length)))
        except BaseException:
            print(f"{policy} after {length} events of {len(history)}")
            raise
