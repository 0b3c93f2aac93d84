"""The rules of sections 6 and 7, one by one, without storage and HTTP. Tests are named after the requirements."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from durable_streams.protocol.subscriptions import events
from durable_streams.protocol.subscriptions.config import Wanted
from durable_streams.protocol.subscriptions.deciding import ENTRIES_MAX
from durable_streams.protocol.subscriptions.errors import (
    AckRefused,
    AlreadyClaimed,
    Fenced,
    InvalidRequest,
    NoPendingWork,
    SubscriptionError,
    SubscriptionExists,
    SubscriptionLimit,
    SubscriptionNotFound,
    TokenInvalid,
)
from durable_streams.protocol.subscriptions.requests import (
    Ack,
    AddStreams,
    Attempt,
    Bury,
    Claim,
    Confirm,
    Delete,
    Expire,
    Fail,
    Grant,
    Release,
    RemoveStream,
    Request,
    Succeed,
    WakeUp,
)
from durable_streams.protocol.subscriptions.retrying import Step, next_step, resume, retry_delay_s
from durable_streams.protocol.subscriptions.state import Phase, Subscription
from durable_streams.protocol.subscriptions.wire import (
    ZERO_OFFSET,
    link_document,
    subscription_document,
    wake_event,
    wake_streams,
)
from tests.subscriptions.scene import ID, LEASE_S, NOW, Scene, pull_wake, webhook

LINKS_MAX = 100


def pulling(**config: Any) -> Scene:
    scene = Scene(pull_wake(**config))
    scene.subscribe()
    return scene


def posting(**config: Any) -> Scene:
    scene = Scene(webhook(**config))
    scene.subscribe()
    return scene


def pending(**config: Any) -> Scene:
    scene = pulling(**config)
    scene.append("events/a")
    return scene


def claimed(**config: Any) -> Scene:
    scene = pending(**config)
    scene.claim()
    return scene


def posted(**config: Any) -> Scene:
    """A webhook subscription whose first delivery is under way."""
    scene = posting(**config)
    scene.append("events/a")
    scene.wake_up()
    return scene


def add(scene: Scene, *paths: str, links_max: int = LINKS_MAX) -> None:
    scene.do(AddStreams(paths, links_max))


def shown(scene: Scene, path: str) -> dict[str, Any]:
    return link_document(scene.sub, path, scene.streams.get(path), scene.situation())


# -- 3.1 and 3.2: addressing, create, read, delete ---------------------------------------------------------------------


def test_r5_each_stream_has_a_cursor_of_its_own() -> None:
    scene = pulling(pattern="**")
    scene.append("events/a")
    scene.append("events/b")
    scene.claim()
    scene.ack(("events/a", scene.tail_of("events/a")))
    assert scene.cursor == {"events/a": 10}
    assert list(scene.situation().behind) == ["events/b"]


def test_r6_explicit_is_shown_when_both_kinds_of_link_hold() -> None:
    scene = claimed()
    scene.ack(("events/a", scene.tail_of("events/a")))
    before = shown(scene, "events/a")
    assert before["link_type"] == "glob"
    add(scene, "events/a")
    assert shown(scene, "events/a") == before | {"link_type": "explicit"}
    scene.do(RemoveStream("events/a"))
    assert shown(scene, "events/a") == before


def test_r11_the_same_configuration_confirms_and_another_conflicts() -> None:
    scene = pulling()
    assert scene.do(Confirm(Wanted(scene.config))).events == ()
    with pytest.raises(SubscriptionExists):
        scene.do(Confirm(Wanted(replace(scene.config, lease_ttl_ms=1000))))


def test_r13_membership_that_changes_later_is_no_part_of_the_configuration() -> None:
    scene = pulling(streams=("a",), pattern=None)
    add(scene, "b")
    scene.do(RemoveStream("a"))
    assert scene.do(Confirm(Wanted(scene.config))).events == ()


def test_r17_streams_that_exist_are_linked_at_their_tail() -> None:
    scene = Scene(pull_wake(streams=("manual/a", "manual/missing")))
    scene.create("events/old", 70)
    scene.create("manual/a", 30)
    scene.subscribe()
    assert scene.cursor == {"events/old": 70, "manual/a": 30, "manual/missing": 0}
    assert not scene.situation().behind
    with pytest.raises(NoPendingWork):
        scene.claim()


def test_r17_a_missing_stream_is_linked_at_the_zero_offset_and_all_of_it_is_pending_later() -> None:
    scene = Scene(pull_wake(pattern=None, streams=("manual/a",)))
    scene.subscribe()
    assert shown(scene, "manual/a")["acked_offset"] == ZERO_OFFSET
    scene.append("manual/a", 10)
    assert list(scene.situation().behind) == ["manual/a"]
    assert shown(scene, "manual/a")["acked_offset"] == ZERO_OFFSET


def test_r18_a_stream_that_is_found_later_is_linked_before_the_append_that_showed_it() -> None:
    scene = pending()
    assert list(scene.situation().behind) == ["events/a"]
    assert shown(scene, "events/a") == {
        "path": "events/a",
        "link_type": "glob",
        "acked_offset": ZERO_OFFSET,
    }


def test_r18_a_fork_that_is_found_later_begins_at_its_fork_point() -> None:
    """D-10, the literal reading: what it has inherited is not replayed."""
    scene = pulling()
    source = scene.create("other/source", 40)
    fork = scene.create("events/fork")
    point = make_fork_point(source.config.uid, 40)
    scene.streams["events/fork"] = replace(fork, config=replace(fork.config, fork=point), tail=40)
    assert not scene.situation().behind
    scene.append("events/fork", 5)
    entry = scene.claim().entries[0]
    assert (entry.position, shown(scene, "events/fork")["acked_offset"]) == (
        45,
        f"{fork.config.uid}_000040",
    )


def make_fork_point(source_uid: str, position: int) -> Any:
    from durable_streams.protocol import state

    values = {
        "source": "other/source",
        "source_uid": source_uid,
        "position": position,
        "anchor": position,
        "sub_offset": 0,
        "inherits_expiry": False,
    }
    more = {name: 1 for name in state.ForkPoint.__dataclass_fields__ if name not in values}
    return state.ForkPoint(**values, **more)


@pytest.mark.parametrize("make", [claimed, posted])
def test_r24_nothing_of_a_deleted_subscription_moves(make: Any) -> None:
    scene = make()
    grant, wake = scene.grant(), scene.wake
    scene.do(Delete())
    assert scene.found is None
    late: list[Request] = [
        Ack(grant, wake.id, 1, (("events/a", scene.tail_of("events/a")),), done=True),
        Release(grant, wake.id, 1),
        Claim("worker-2", "w_9"),
        Succeed(wake.id, True, NOW),
        Fail(wake.id, "late"),
        Bury(wake.id),
        WakeUp("w_9"),
        Expire(),
        Attempt(wake.id),
    ]
    for request in late:
        with pytest.raises(SubscriptionNotFound):
            scene.do(request)


def test_r24_the_generation_goes_on_when_a_deleted_id_is_used_again() -> None:
    scene = claimed()
    old = scene.grant()
    deleted = scene.do(Delete()).events[0]
    assert deleted == events.Deleted(1, NOW)
    scene.subscribe(generation=1)
    scene.append("events/a")
    assert scene.claim().generation == 2
    with pytest.raises(Fenced):
        scene.ack(grant=old)


# -- 3.3: membership ---------------------------------------------------------------------------------------------------


def test_r30_an_added_stream_is_linked_at_its_tail() -> None:
    scene = pulling()
    scene.create("manual/a", 25)
    add(scene, "manual/a", "manual/missing")
    assert scene.cursor == {"manual/a": 25, "manual/missing": 0}
    assert not scene.situation().behind
    scene.append("manual/a")
    assert list(scene.situation().behind) == ["manual/a"]


def test_r30_adding_again_changes_nothing() -> None:
    scene = pulling()
    scene.create("manual/a", 25)
    add(scene, "manual/a")
    scene.append("manual/a")
    before = scene.sub.copy()
    assert scene.do(AddStreams(("manual/a", "manual/a"), LINKS_MAX)).events == ()
    assert scene.sub == before


def test_r30_a_pending_link_of_the_pattern_keeps_its_cursor() -> None:
    scene = pending()
    add(scene, "events/a")
    assert list(scene.situation().behind) == ["events/a"]
    assert scene.cursor == {"events/a": 0}


def test_r30_more_links_than_allowed_are_refused() -> None:
    scene = pulling()
    with pytest.raises(SubscriptionLimit):
        add(scene, "a", "b", "c", links_max=2)
    assert scene.cursor == {}
    add(scene, "a", "b", links_max=2)
    add(scene, "a", "b", links_max=2)


def test_r31_removing_is_idempotent_and_removes_the_explicit_link_alone() -> None:
    scene = claimed()
    scene.ack(("events/a", scene.tail_of("events/a")))
    add(scene, "events/a", "manual/a")
    for _ in range(2):
        scene.do(RemoveStream("manual/a"))
        scene.do(RemoveStream("events/a"))
        scene.do(RemoveStream("never/there"))
    assert scene.cursor == {"events/a": 10}
    scene.append("events/a")
    assert list(scene.situation().behind) == ["events/a"]


def test_r31_a_removed_stream_wakes_nobody() -> None:
    scene = pulling()
    add(scene, "manual/a")
    scene.append("manual/a")
    scene.do(RemoveStream("manual/a"))
    assert not scene.situation().behind


def test_r33_the_wake_stream_is_never_linked() -> None:
    scene = pulling(pattern="**", max_attempts=3, dead_letter_stream="dead")
    with pytest.raises(InvalidRequest, match="wake/pool"):
        add(scene, "a", "wake/pool")
    with pytest.raises(InvalidRequest, match="dead"):
        add(scene, "dead")
    scene.append("wake/pool")
    scene.append("dead")
    assert not scene.situation().behind


# -- 3.5: wakes in general, webhooks -----------------------------------------------------------------------------------


def test_r50_one_wake_at_a_time_whatever_is_appended() -> None:
    scene = pending()
    wake = scene.wake_up()
    for path in ("events/a", "events/b"):
        scene.append(path)
        assert scene.do(WakeUp("w_other")).events == ()
    assert scene.wake is wake
    scene.claim()
    assert scene.do(WakeUp("w_other")).events == ()


def test_r50_nothing_pending_makes_no_wake() -> None:
    scene = pulling()
    scene.create("events/empty")
    scene.append("other/a")
    assert scene.do(WakeUp("w_1")).events == ()


def test_r51_generations_begin_at_1_and_grow_by_1_with_each_wake() -> None:
    scene = pulling()
    seen = []
    for _ in range(4):
        scene.append("events/a")
        wake = scene.claim()
        seen.append((wake.generation, wake.id))
        scene.ack(("events/a", scene.tail_of("events/a")))
    assert [generation for generation, _ in seen] == [1, 2, 3, 4]
    assert len({wake_id for _, wake_id in seen}) == 4


def test_r52_acks_are_inclusive() -> None:
    scene = claimed()
    scene.ack(("events/a", scene.tail_of("events/a")))
    assert shown(scene, "events/a")["acked_offset"] == scene.tail_of("events/a")
    assert not scene.situation().behind
    scene.append("events/a", 1)
    assert list(scene.situation().behind) == ["events/a"]


def test_r53_a_wake_has_five_fields_for_each_stream() -> None:
    scene = posting()
    scene.create("manual/quiet", 30)
    scene.do(AddStreams(("manual/quiet",), LINKS_MAX))
    scene.append("events/a")
    wake = scene.wake_up()
    assert list(wake_streams(scene.sub, wake.entries, ["events/a", "manual/quiet"], scene.situation())) == [
        {
            "path": "events/a",
            "link_type": "glob",
            "acked_offset": ZERO_OFFSET,
            "tail_offset": scene.tail_of("events/a"),
            "has_pending": True,
        },
        {
            "path": "manual/quiet",
            "link_type": "explicit",
            "acked_offset": scene.tail_of("manual/quiet"),
            "tail_offset": scene.tail_of("manual/quiet"),
            "has_pending": False,
        },
    ]


def test_r53_a_retry_sends_the_snapshot_of_the_wake() -> None:
    scene = posted()
    entries = scene.wake.entries
    first = list(wake_streams(scene.sub, entries, [], scene.situation()))
    scene.fail()
    scene.append("events/a")
    scene.append("events/b")
    scene.attempt()
    assert scene.wake.entries == entries
    assert list(wake_streams(scene.sub, scene.wake.entries, [], scene.situation())) == first


def test_r53_a_wake_holds_a_bounded_number_of_streams_and_the_rest_make_the_next() -> None:
    scene = posting()
    for number in range(ENTRIES_MAX + 5):
        scene.append(f"events/{number}")
    assert len(scene.wake_up().entries) == ENTRIES_MAX
    scene.succeed(done=True)
    assert len(scene.wake_up().entries) == 5


def test_r56_done_acks_the_snapshot_of_this_wake_and_releases() -> None:
    scene = posted()
    scene.append("events/a", 5)
    scene.append("events/b", 5)
    scene.succeed(done=True)
    assert scene.sub.wake is None
    assert scene.cursor == {"events/a": 10}


def test_r56_a_late_answer_of_an_earlier_wake_acks_nothing() -> None:
    scene = posted()
    early = scene.wake.id
    scene.ack(done=True)
    scene.append("events/b")
    scene.wake_up()
    before = scene.sub.copy()
    for late in (scene.succeed(done=True, wake_id=early), scene.succeed(done=False, wake_id=early)):
        assert late.events == ()
    assert scene.fail(wake_id=early).events == ()
    assert scene.sub == before


def test_r56_a_stream_that_was_created_again_is_not_acked_by_the_old_snapshot() -> None:
    scene = posted()
    scene.delete("events/a")
    scene.append("events/a", 3)
    scene.succeed(done=True)
    assert scene.cursor == {}
    assert list(scene.situation().behind) == ["events/a"]


def test_r57_what_came_after_the_snapshot_makes_another_wake() -> None:
    scene = posted()
    first = scene.wake
    scene.append("events/a", 5)
    scene.succeed(done=True)
    second = scene.wake_up()
    assert (second.generation, second.id != first.id) == (2, True)
    assert second.entries[0].position == 15


def test_r58_a_callback_without_done_extends_the_lease_and_with_done_releases() -> None:
    scene = posted()
    scene.succeed(done=False)
    scene.now += 20
    assert scene.ack(("events/a", scene.tail_of("events/a")), done=False).next_wake is False
    assert scene.cursor == {"events/a": 10}
    assert scene.wake.lease_until == scene.now + LEASE_S
    scene.append("events/a")
    assert scene.ack(done=True).next_wake is True
    assert scene.sub.wake is None


def test_r58_a_callback_may_come_before_the_webhook_is_answered() -> None:
    scene = posted()
    scene.ack(done=False)
    assert scene.wake.phase is Phase.HELD
    # The worker lives, so that the delivery has failed is no reason to deliver again.
    assert scene.fail().events == ()
    assert scene.succeed(done=False).events == ()
    assert scene.ack(("events/a", scene.tail_of("events/a"))).next_wake is False


def test_r59_each_type_is_acked_at_its_own_endpoint() -> None:
    pull, hook = claimed(), posted()
    with pytest.raises(InvalidRequest, match="ack endpoint"):
        pull.do(Ack(pull.grant(), pull.wake.id, 1, done=True, callback=True))
    with pytest.raises(InvalidRequest, match="callback endpoint"):
        hook.do(Ack(hook.grant(), hook.wake.id, 1, done=True))
    with pytest.raises(InvalidRequest):
        hook.release()
    with pytest.raises(InvalidRequest):
        hook.claim()


@pytest.mark.parametrize("make", [claimed, posted])
def test_r60_a_done_that_is_repeated_is_fenced(make: Any) -> None:
    scene = make()
    told = {"grant": scene.grant(), "wake_id": scene.wake.id, "generation": 1}
    scene.ack(**told)
    for _ in range(2):
        with pytest.raises(Fenced):
            scene.do(Ack(**told, done=True, callback=not scene.sub.pulls))


def test_r61_retries_double_from_1_to_60_seconds_with_a_fifth_of_jitter() -> None:
    middle = [retry_delay_s(attempt, 0.5) for attempt in range(1, 10)]
    assert middle == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert retry_delay_s(1, 0.0) == pytest.approx(0.8)
    assert retry_delay_s(1, 1.0) == pytest.approx(1.2)
    assert retry_delay_s(10_000, 1.0) == pytest.approx(72)


def test_r61_a_failure_is_retried_with_the_same_wake() -> None:
    scene = posted()
    wake_id, generation = scene.wake.id, scene.wake.generation
    for delay in (1, 2, 4):
        scene.fail()
        step = next_step(scene.sub, NOW)
        assert (step.step, step.at) == (Step.DELIVER, scene.now + delay)
        scene.now = step.at
        scene.attempt()
        assert scene.wake.lease_until == scene.now + LEASE_S
        assert (scene.wake.id, scene.wake.generation) == (wake_id, generation)


def test_r62_the_state_of_a_retry_is_in_the_events() -> None:
    scene = posted()
    scene.fail()
    scene.now += 1
    scene.attempt()
    scene.fail()
    again = scene.again()
    assert again == scene.sub
    assert next_step(again, NOW).at == scene.now + 2


def test_r62_a_clock_that_was_set_back_delays_nothing_for_long() -> None:
    scene = posted()
    scene.fail()
    again = scene.again()
    assert again is not None
    assert again.wake is not None
    earlier = scene.now - 86_400
    resume(again, earlier)
    assert again.wake.next_attempt_at == pytest.approx(earlier + 72)
    assert again.wake.lease_until == earlier + LEASE_S
    assert again.wake.issued_at == earlier


def test_r63_status_is_failed_while_a_retry_is_scheduled() -> None:
    def status() -> Any:
        document = subscription_document(scene.sub, 0, 0)
        return document["status"], document["attempts"], document["last_error"], document["next_attempt_at"]

    scene = posted()
    assert status() == ("active", 0, None, None)
    scene.fail()
    assert status() == ("failed", 1, "503 Service Unavailable", "2027-01-15T08:00:01.000Z")
    scene.now += 1
    scene.attempt()
    assert status()[0] == "failed"
    scene.succeed(done=True)
    assert status() == ("active", 0, None, None)


# -- 3.6: pull-wake ----------------------------------------------------------------------------------------------------


def test_r71_the_wake_event_has_five_fields() -> None:
    scene = pulling()
    scene.append("events/b")
    scene.append("events/a")
    scene.now += 0.2104
    assert wake_event(scene.sub, scene.wake_up(), scene.now) == {
        "type": "wake",
        "subscription_id": ID,
        "stream": "events/b",
        "generation": 1,
        "ts": 1_800_000_000_210,
    }


def test_r72_a_claim_takes_the_wake_in_flight() -> None:
    scene = pending()
    wake = scene.wake_up()
    scene.append("events/b")
    taken = scene.claim()
    assert (taken.id, taken.generation) == (wake.id, 1)
    assert [entry.path for entry in taken.entries] == ["events/a", "events/b"]


def test_r72_a_claim_makes_a_wake_when_work_is_pending_and_none_is_in_flight() -> None:
    scene = pending()
    assert (scene.claim().generation, scene.wake.holder) == (1, "worker-1")


def test_r72_a_claim_without_work_is_refused() -> None:
    scene = pulling()
    with pytest.raises(NoPendingWork):
        scene.claim()
    assert (scene.sub.wake, scene.sub.generation) == (None, 0)


def test_r73_a_second_claim_is_told_who_holds_it() -> None:
    scene = claimed()
    with pytest.raises(AlreadyClaimed) as refused:
        scene.claim("worker-2")
    assert refused.value.extras == {"current_holder": "worker-1", "generation": 1}
    assert scene.wake.holder == "worker-1"


def test_r74_an_ack_without_done_is_a_heartbeat() -> None:
    scene = claimed()
    scene.now += 29
    assert scene.ack(done=False).next_wake is False
    assert (scene.wake.phase, scene.wake.lease_until) == (Phase.HELD, scene.now + LEASE_S)
    with pytest.raises(AlreadyClaimed):
        scene.claim("worker-2")


@pytest.mark.parametrize(("left", "next_wake"), [(False, False), (True, True)])
def test_r74_an_ack_with_done_applies_releases_and_says_whether_work_is_left(
    left: bool, next_wake: bool
) -> None:
    scene = claimed()
    tail = scene.tail_of("events/a")
    if left:
        scene.append("events/a")
    assert scene.ack(("events/a", tail)).next_wake is next_wake
    assert scene.sub.wake is None
    assert scene.cursor == {"events/a": 10}


def test_r75_a_release_acks_nothing() -> None:
    scene = claimed()
    scene.release()
    assert (scene.sub.wake, scene.cursor) == (None, {})


def test_r76_work_that_is_left_after_a_release_makes_another_wake() -> None:
    scene = claimed()
    scene.release()
    assert next_step(scene.sub, NOW).step is Step.WAKE_UP
    assert scene.wake_up().generation == 2


def test_r77_a_stale_release_is_fenced() -> None:
    scene = claimed()
    grant, wake_id = scene.grant(), scene.wake.id
    scene.release()
    with pytest.raises(Fenced):
        scene.do(Release(grant, wake_id, 1))


# -- 3.7: fencing and leases -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ({"grant": Grant("sub-2", 2)}, TokenInvalid),
        ({"grant": Grant(ID, 1)}, Fenced),
        ({"grant": Grant(ID, 3)}, Fenced),
        ({"generation": 1}, Fenced),
        ({"generation": 3}, Fenced),
        ({"wake_id": "w_1"}, Fenced),
    ],
)
@pytest.mark.parametrize("make", [claimed, posted])
def test_r80_each_of_the_four_checks_refuses_by_itself(
    make: Any, other: dict[str, Any], error: type[SubscriptionError]
) -> None:
    scene = make()
    scene.ack()
    scene.append("events/a")
    _ = scene.claim() if scene.sub.pulls else scene.wake_up()
    assert scene.wake.generation == 2
    before = scene.sub.copy()
    with pytest.raises(error):
        scene.ack(("events/a", scene.tail_of("events/a")), **other)
    if scene.sub.pulls:
        told = {"grant": scene.grant(), "wake_id": scene.wake.id, "generation": 2} | other
        with pytest.raises(error):
            scene.do(Release(**told))
    assert scene.sub == before


def test_r80_a_wake_that_nobody_has_claimed_cannot_be_acked() -> None:
    scene = pending()
    scene.wake_up()
    with pytest.raises(Fenced):
        scene.ack()


def test_r81_a_webhook_lease_begins_with_the_wake_and_a_pull_lease_with_the_claim() -> None:
    hook = posted()
    assert hook.wake.lease_until == NOW + LEASE_S
    pull = pending()
    assert pull.wake_up().lease_until == 0
    pull.now += 100
    assert pull.claim().lease_until == pull.now + LEASE_S


def test_r81_an_attempt_begins_the_lease_anew_and_its_answer_counts_from_its_beginning() -> None:
    scene = posted()
    scene.now += 29
    scene.fail()
    scene.now += 5
    scene.attempt()
    began_at = scene.now
    scene.now += 10
    scene.do(Succeed(scene.wake.id, False, began_at))
    assert scene.wake.lease_until == began_at + LEASE_S


@pytest.mark.parametrize("make", [claimed, posted])
def test_r82_the_end_of_a_lease_clears_holder_and_token(make: Any) -> None:
    scene = make()
    if not scene.sub.pulls:
        scene.succeed(done=False)
    grant, wake_id = scene.grant(), scene.wake.id
    told = {"grant": grant, "wake_id": wake_id, "generation": 1}
    scene.now += LEASE_S - 1
    assert scene.expire().events == ()
    scene.now += 1
    # Before anybody has looked the token is worth nothing already.
    with pytest.raises(Fenced):
        scene.ack(**told)
    scene.expire()
    assert scene.sub.wake is None
    with pytest.raises(Fenced):
        scene.do(Ack(**told, done=True, callback=not scene.sub.pulls))


def test_r82_an_earlier_worker_keeps_its_token_until_its_lease_ends_while_a_retry_waits() -> None:
    scene = posted(lease_ttl_ms=1000)
    for _ in range(4):
        scene.fail()
        scene.attempt()
    scene.fail()
    scene.now += 0.9
    scene.ack(done=False)
    other = posted(lease_ttl_ms=1000)
    other.fail()
    other.now += 1
    with pytest.raises(Fenced):
        other.ack()
    other.attempt()
    other.ack()


def test_r83_pending_work_makes_another_wake_when_a_lease_has_ended() -> None:
    scene = claimed()
    scene.now += LEASE_S
    assert next_step(scene.sub, NOW).step is Step.EXPIRE
    scene.expire()
    assert next_step(scene.sub, NOW).step is Step.WAKE_UP
    assert scene.wake_up().generation == 2


def test_r83_a_claim_that_finds_an_ended_lease_gets_a_new_generation() -> None:
    scene = claimed()
    old = scene.grant()
    scene.now += LEASE_S
    taken = scene.claim("worker-2")
    assert (taken.generation, taken.holder) == (2, "worker-2")
    with pytest.raises(Fenced):
        scene.ack(grant=old)


@pytest.mark.parametrize(
    ("path", "offset"),
    [
        ("events/a", "u1_000004"),
        ("events/a", "u1_000021"),
        ("events/a", "-1"),
        ("events/a", "now"),
        ("events/a", ""),
        ("events/a", "u9_000020"),
        ("other/a", "u2_000010"),
        ("never/there", "u1_000010"),
    ],
)
def test_r84_an_offset_that_is_none_is_refused_and_with_it_the_whole_batch(path: str, offset: str) -> None:
    scene = claimed()
    scene.append("other/a")
    scene.ack(("events/a", "u1_000005"), done=False)
    scene.append("events/a")
    scene.append("events/b")
    before = scene.sub.copy()
    with pytest.raises(AckRefused, match=path or "."):
        scene.ack(("events/b", scene.tail_of("events/b")), (path, offset))
    assert scene.sub == before


@pytest.mark.parametrize("offset", ["u1_000005", "u1_000006", "u1_000010"])
def test_r84_from_the_cursor_to_the_tail_every_offset_is_accepted(offset: str) -> None:
    scene = claimed()
    scene.ack(("events/a", "u1_000005"), done=False)
    scene.ack(("events/a", offset), done=False)
    assert shown(scene, "events/a")["acked_offset"] == offset


def test_r84_a_stream_that_has_gone_since_the_worker_was_told_of_it_may_be_acked() -> None:
    scene = claimed()
    tail = scene.tail_of("events/a")
    scene.delete("events/a")
    assert scene.ack(("events/a", tail)).next_wake is False
    assert scene.cursor == {}


# -- deleted, created again and closed streams -------------------------------------------------------------------------


def test_d16_a_stream_that_was_created_again_is_pending_from_its_start() -> None:
    scene = pulling(streams=("events/a",))
    scene.append("events/a", 100)
    scene.claim()
    scene.ack(("events/a", scene.tail_of("events/a")))
    scene.delete("events/a")
    assert shown(scene, "events/a")["acked_offset"] == ZERO_OFFSET
    scene.append("events/a", 7)
    assert list(scene.situation().behind) == ["events/a"]
    assert shown(scene, "events/a") == {
        "path": "events/a",
        "link_type": "explicit",
        "acked_offset": ZERO_OFFSET,
    }


def test_d17_a_close_wakes_only_with_what_it_appends() -> None:
    scene = pulling()
    scene.append("events/a", 5, close=True)
    scene.claim()
    scene.ack(("events/a", scene.tail_of("events/a")))
    scene.append("events/b", 5)
    scene.claim()
    scene.ack(("events/b", scene.tail_of("events/b")))
    scene.append("events/b", 0, close=True)
    assert not scene.situation().behind


# -- extensions --------------------------------------------------------------------------------------------------------


def test_on_close_wakes_when_a_stream_closes_without_data() -> None:
    scene = pulling(on_close=True)
    scene.append("events/a", 5)
    scene.claim()
    scene.append("events/a", 0, close=True)
    # The worker was not told of the end, so its ack is none of the end.
    assert scene.ack(("events/a", scene.tail_of("events/a"))).next_wake is True
    wake = scene.claim()
    assert list(wake_streams(scene.sub, wake.entries, [], scene.situation())) == [
        {
            "path": "events/a",
            "link_type": "glob",
            "acked_offset": scene.tail_of("events/a"),
            "tail_offset": scene.tail_of("events/a"),
            "has_pending": True,
            "closed": True,
        }
    ]
    assert scene.ack(("events/a", scene.tail_of("events/a"))).next_wake is False
    assert not scene.situation().behind
    assert scene.again() == scene.sub


def test_on_close_counts_no_stream_that_was_closed_before() -> None:
    scene = Scene(pull_wake(on_close=True))
    scene.create("events/a", 5, closed=True)
    scene.subscribe()
    assert not scene.situation().behind


@pytest.mark.parametrize(("start", "cursor"), [("tail", 40), ("beginning", 0), ("u1_000015", 15)])
def test_start_says_where_an_existing_stream_is_linked(start: str, cursor: int) -> None:
    scene = Scene(pull_wake(pattern=None, streams=("a",), start=start))
    scene.create("a", 40)
    scene.subscribe()
    assert scene.cursor == {"a": cursor}
    assert bool(scene.situation().behind) is (cursor < 40)


@pytest.mark.parametrize("start", ["u1_000041", "u2_000001", "middle"])
def test_start_at_no_offset_of_the_stream_is_refused(start: str) -> None:
    scene = Scene(pull_wake(pattern=None, streams=("a",), start=start))
    scene.create("a", 40)
    with pytest.raises(InvalidRequest, match="start"):
        scene.subscribe()


def test_start_at_the_beginning_holds_for_streams_that_are_added() -> None:
    scene = pulling(start="beginning")
    scene.create("manual/a", 25)
    add(scene, "manual/a")
    assert scene.cursor == {"manual/a": 0}


def test_paused_makes_no_wake_and_answers_no_claim() -> None:
    scene = pending()
    scene.do(Confirm(Wanted(scene.config, paused=True)))
    assert next_step(scene.sub, NOW).step is Step.REST
    assert scene.do(WakeUp("w_1")).events == ()
    with pytest.raises(NoPendingWork, match="paused"):
        scene.claim()
    # A configuration that says nothing of it leaves it as it is.
    assert scene.do(Confirm(Wanted(scene.config))).events == ()
    scene.do(Confirm(Wanted(scene.config, paused=False)))
    assert next_step(scene.sub, NOW).step is Step.WAKE_UP
    assert scene.again() == scene.sub


def test_paused_lets_a_worker_finish() -> None:
    scene = claimed()
    scene.do(Confirm(Wanted(scene.config, paused=True)))
    scene.ack(("events/a", scene.tail_of("events/a")))
    assert scene.cursor == {"events/a": 10}


def test_batch_ms_delays_the_wake_but_no_claim() -> None:
    scene = pending(batch_ms=500)
    step = next_step(scene.sub, NOW + 3)
    assert (step.step, step.at) == (Step.WAKE_UP, NOW + 3.5)
    assert scene.claim().generation == 1


DEAD = {"max_attempts": 3, "dead_letter_stream": "dead"}


def test_max_attempts_sends_the_events_of_a_wake_to_the_dead_letters() -> None:
    scene = posted(**DEAD)
    for _ in range(2):
        scene.fail()
        assert scene.wake.phase is Phase.WAKING
    scene.fail()
    assert scene.wake.phase is Phase.CONDEMNED
    assert next_step(scene.sub, NOW).step is Step.BURY
    with pytest.raises(Fenced):
        scene.ack()
    scene.bury()
    assert (scene.sub.wake, scene.sub.failures, scene.cursor) == (None, 0, {"events/a": 10})
    assert scene.again() == scene.sub


def test_max_attempts_counts_leases_that_end_without_an_ack() -> None:
    scene = claimed(**DEAD)
    for _ in range(2):
        scene.now += LEASE_S
        scene.expire()
        scene.claim()
    scene.now += LEASE_S
    with pytest.raises(NoPendingWork):
        scene.claim()
    scene.expire()
    assert scene.wake.phase is Phase.CONDEMNED
    with pytest.raises(NoPendingWork):
        scene.claim()
    scene.bury()
    assert scene.cursor == {"events/a": 10}


def test_max_attempts_begins_anew_with_every_success() -> None:
    scene = claimed(**DEAD)
    for _ in range(5):
        scene.ack(("events/a", scene.tail_of("events/a")), done=False)
        scene.now += LEASE_S
        scene.append("events/a")
        scene.expire()
        scene.claim()
    assert scene.sub.failures == 1


def test_a_dead_letter_that_cannot_be_written_is_tried_again() -> None:
    scene = posted(**{**DEAD, "max_attempts": 1})
    scene.fail()
    for delay in (1, 2, 4):
        scene.fail()
        assert next_step(scene.sub, NOW).step is Step.BURY
        assert next_step(scene.sub, NOW).at == scene.now + delay
    assert scene.cursor == {}


def test_without_max_attempts_a_wake_is_tried_for_ever() -> None:
    scene = posted()
    for _ in range(2000):
        scene.fail()
    assert scene.wake.phase is Phase.WAKING


# -- events ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [events.Ended(events.DONE), events.Extended(NOW)])
def test_events_that_no_decision_can_have_made_are_refused(event: events.Event) -> None:
    with pytest.raises(ValueError, match="without a subscription"):
        events.apply(None, event)
    assert events.apply(None, events.Deleted(7, NOW)) is None
    with pytest.raises(ValueError, match="without a wake"):
        events.apply(pulling().sub, event)


def test_a_snapshot_makes_the_same_subscription() -> None:
    scene = claimed(streams=tuple(f"manual/{number}" for number in range(1200)))
    again: Subscription | None = None
    for event in events.snapshot(scene.sub):
        again = events.apply(again, event)
    assert again == scene.sub
    assert again is not None
    assert again.wake is not scene.sub.wake
