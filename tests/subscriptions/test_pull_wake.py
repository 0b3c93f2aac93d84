"""Pull-wake from an append to the acked cursor (section 7.2), leases and fencing (section 7.3), over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.subscriptions.conftest import OpenSubscribed
from tests.subscriptions.driving import Subscribed, error_of, until
from tests.web.driving import JSON


def cursor(server: Subscribed, path: str) -> str:
    links = {link["path"]: link["acked_offset"] for link in server.shown()["streams"]}
    return str(links[path])


def test_r70_the_server_never_makes_the_wake_stream(server: Subscribed) -> None:
    document = {"type": "pull-wake", "pattern": "events/*", "wake_stream": "wake/pool"}
    assert error_of(server.control("PUT", "sub-1", document=document)) == (400, "INVALID_REQUEST")
    assert server.head("wake/pool").status_int == 404
    server.subscribe()
    server.delete("wake/pool")
    server.create("events/a", 1)
    server.settle()
    assert server.head("wake/pool").status_int == 404


def test_r71_one_message_for_each_wake(server: Subscribed) -> None:
    server.subscribe()
    server.create("events/b", 1)
    server.create("events/a", 1)
    (event,) = server.wake_events()
    ts = event.pop("ts")
    assert isinstance(ts, int)
    assert event == {"type": "wake", "subscription_id": "sub-1", "stream": "events/b", "generation": 1}


def test_r72_a_claim_right_after_an_append_succeeds(server: Subscribed) -> None:
    server.subscribe()
    for generation in range(1, 20):
        tail = server.create("events/a", 1) if generation == 1 else server.append("events/a", generation)
        # The event loop had no time to write a wake event.
        told = server.claim()
        assert (told["generation"], told["streams"][0]["tail_offset"]) == (generation, tail)
        assert server.ack(told).json["next_wake"] is False


def test_r72_the_answer_to_a_claim(server: Subscribed) -> None:
    quiet = server.create("events/quiet", 0)
    server.subscribe(lease_ttl_ms=5000)
    tail = server.create("events/a", 1)
    told = server.claim()
    assert told.keys() == {"wake_id", "generation", "token", "streams", "lease_ttl_ms"}
    assert (told["generation"], told["lease_ttl_ms"]) == (1, 5000)
    assert told["streams"] == [
        {
            "path": "events/a",
            "link_type": "glob",
            "acked_offset": "0000000000000000_0000000000000000",
            "tail_offset": tail,
            "has_pending": True,
        },
        {
            "path": "events/quiet",
            "link_type": "glob",
            "acked_offset": quiet,
            "tail_offset": quiet,
            "has_pending": False,
        },
    ]


def test_r72_a_claim_that_makes_the_wake_is_not_announced_again(server: Subscribed) -> None:
    server.subscribe()
    server.create("events/a", 1)
    server.claim()
    assert server.wake_events() == []


@pytest.mark.parametrize("document", [{}, {"worker": ""}, {"worker": 7}, {"worker": None}])
def test_r72_a_claim_without_a_worker_is_refused(server: Subscribed, document: Any) -> None:
    server.subscribe()
    server.create("events/a", 1)
    assert error_of(server.control("POST", "sub-1", "/claim", document)) == (400, "INVALID_REQUEST")
    assert server.claim()["generation"] == 1


def test_r73_who_comes_second_is_told_who_holds_it(server: Subscribed) -> None:
    server.subscribe()
    server.create("events/a", 1)
    server.claim(worker="worker-1")
    response = server.control("POST", "sub-1", "/claim", {"worker": "worker-2"})
    assert error_of(response) == (409, "ALREADY_CLAIMED")
    assert response.json["error"]["current_holder"] == "worker-1"
    assert response.json["error"]["generation"] == 1


def test_r74_heartbeats_keep_a_claim(server: Subscribed) -> None:
    server.subscribe(lease_ttl_ms=1000)
    server.create("events/a", 1)
    told = server.claim()
    for _ in range(5):
        server.advance(0.9)
        server.settle()
        response = server.ack(told, acks=[], done=False)
        assert (response.status_int, response.json) == (200, {"ok": True, "next_wake": False})
    assert server.ack(told).status_int == 200


@pytest.mark.parametrize(
    "change",
    [
        {"wake_id": None},
        {"wake_id": 7},
        {"generation": None},
        {"generation": "1"},
        {"generation": True},
        {"done": "yes"},
        {"acks": {}},
        {"acks": ["events/a"]},
        {"acks": [{"stream": "events/a"}]},
        {"acks": [{"stream": "events/a", "offset": 7}]},
        {"acks": [{"offset": "x"}]},
        {"acks": [{"stream": "", "offset": "x"}]},
    ],
)
def test_d4_a_malformed_ack_is_refused(server: Subscribed, change: dict[str, Any]) -> None:
    server.subscribe()
    server.create("events/a", 1)
    told = server.claim()
    document = {"wake_id": told["wake_id"], "generation": 1, "acks": [], "done": True} | change
    response = server.control("POST", "sub-1", "/ack", document, told["token"])
    assert error_of(response) == (400, "INVALID_REQUEST")
    assert server.ack(told).status_int == 200


def test_d4_an_ack_may_say_path(server: Subscribed) -> None:
    server.subscribe()
    tail = server.create("events/a", 1)
    told = server.claim()
    acks = [{"path": "events/a", "offset": tail}]
    document = {"wake_id": told["wake_id"], "generation": 1, "acks": acks, "done": True, "more": 1}
    assert server.control("POST", "sub-1", "/ack", document, told["token"]).json["next_wake"] is False
    assert cursor(server, "events/a") == tail


def test_r75_a_release_is_204_and_acks_nothing(server: Subscribed) -> None:
    server.subscribe()
    server.create("events/a", 1)
    told = server.claim()
    document = {"wake_id": told["wake_id"], "generation": 1}
    response = server.control("POST", "sub-1", "/release", document, told["token"])
    assert (response.status_int, response.body) == (204, b"")
    assert server.shown()["lag"]["streams"] == 1


def test_r76_what_is_left_after_a_release_is_announced_again(server: Subscribed) -> None:
    server.subscribe()
    server.create("events/a", 1)
    assert [event["generation"] for event in server.wake_events()] == [1]
    told = server.claim()
    server.control("POST", "sub-1", "/release", {"wake_id": told["wake_id"], "generation": 1}, told["token"])
    assert [event["generation"] for event in server.wake_events()] == [1, 2]


def test_r76_what_is_left_after_an_ack_is_announced_again(server: Subscribed) -> None:
    server.subscribe()
    first = server.create("events/a", 1)
    server.settle()
    told = server.claim()
    server.append("events/a", 2)
    assert server.ack(told, acks=[("events/a", first)]).json["next_wake"] is True
    assert [event["generation"] for event in server.wake_events()] == [1, 2]


def test_r77_stale_requests_are_fenced(server: Subscribed) -> None:
    server.subscribe()
    server.create("events/a", 1)
    told = server.claim()
    assert server.ack(told).status_int == 200
    assert error_of(server.ack(told)) == (409, "FENCED")
    release = server.control(
        "POST", "sub-1", "/release", {"wake_id": told["wake_id"], "generation": 1}, told["token"]
    )
    assert error_of(release) == (409, "FENCED")


def test_r78_a_wake_event_that_is_repeated_stands_there_once(server: Subscribed) -> None:
    """As after a crash between the append and whatever would note it."""
    server.subscribe()
    server.create("events/a", 1)
    assert len(server.wake_events()) == 1
    for _ in range(3):
        server.tracked().announced = 0
        server.dispatcher.poke(server.tracked())
        server.settle()
    assert len(server.wake_events()) == 1
    assert server.claim()["generation"] == 1


def test_r82_the_end_of_a_lease_announces_another_wake(server: Subscribed) -> None:
    server.subscribe(lease_ttl_ms=1000)
    server.create("events/a", 1)
    server.settle()
    told = server.claim()
    server.settle()
    server.advance(1.001)
    assert [event["generation"] for event in server.wake_events()] == [1, 2]
    assert error_of(server.ack(told)) == (409, "FENCED")
    assert server.claim()["generation"] == 2


def test_r83_a_claim_before_anybody_has_noticed_the_end_gets_a_new_generation(server: Subscribed) -> None:
    server.subscribe(lease_ttl_ms=1000)
    server.create("events/a", 1)
    told = server.claim()
    server.leases.ahead += 1.001
    assert server.claim(worker="worker-2")["generation"] == 2
    assert error_of(server.ack(told)) == (409, "FENCED")


@pytest.mark.parametrize("offset", ["-1", "now", "", "x", "0000000000000000_0000000000009990"])
def test_r84_offsets_that_are_none_are_refused(server: Subscribed, offset: str) -> None:
    server.subscribe()
    server.create("events/a", 1)
    told = server.claim()
    response = server.ack(told, acks=[("events/a", offset)])
    assert error_of(response) == (409, "INVALID_OFFSET")
    assert "events/a" in response.json["error"]["message"]


def test_r84_offsets_of_other_streams_and_lives_are_refused(server: Subscribed) -> None:
    server.subscribe()
    old = server.create("events/a", 1)
    other = server.create("elsewhere", 1)
    server.delete("events/a")
    server.create("events/a", 1)
    told = server.claim()
    for acks in ([("events/a", old)], [("elsewhere", other)], [("events/a", other)], [("nobody", old)]):
        assert error_of(server.ack(told, acks=acks)) == (409, "INVALID_OFFSET"), acks
    assert server.ack(told).json["next_wake"] is False


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Basic abc", "Bearer", "Bearer ", "Bearer " + "x" * 5000, "Bearer a.b.c", "\xff"],
)
def test_r91_every_ack_and_release_needs_a_valid_token(server: Subscribed, authorization: str | None) -> None:
    server.subscribe()
    server.create("events/a", 1)
    told = server.claim()
    document = {"wake_id": told["wake_id"], "generation": 1, "acks": [], "done": True, "token": told["token"]}
    headers = {} if authorization is None else {"Authorization": authorization}
    for action in ("ack", "release"):
        response = server.ask(
            "POST", f"subscriptions/sub-1/{action}?token={told['token']}", document, **headers
        )
        assert error_of(response) == (401, "TOKEN_INVALID")
    assert server.ack(told).status_int == 200


def test_r89_a_token_in_the_query_or_the_body_is_none(server: Subscribed) -> None:
    server.subscribe()
    server.create("events/a", 1)
    told = server.claim()
    document = {"wake_id": told["wake_id"], "generation": 1, "token": told["token"]}
    response = server.ask("POST", f"subscriptions/sub-1/release?token={told['token']}", document)
    assert error_of(response) == (401, "TOKEN_INVALID")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_r89_the_scheme_is_recognised_in_any_case(server: Subscribed, scheme: str) -> None:
    server.subscribe()
    server.create("events/a", 1)
    told = server.claim()
    document = {"wake_id": told["wake_id"], "generation": 1, "done": True}
    headers = {"Authorization": f"{scheme} {told['token']}"}
    assert server.ask("POST", "subscriptions/sub-1/ack", document, **headers).status_int == 200


# -- streams that go and come ------------------------------------------------------------------------------------------


def test_d16_a_deleted_stream_ends_the_link_of_the_pattern_and_resets_an_explicit_one(
    server: Subscribed,
) -> None:
    server.subscribe(pattern="events/*", streams=["manual/a"])
    server.create("events/a", 1)
    server.create("manual/a", 1)
    assert server.ack(server.claim()).json["next_wake"] is False
    server.delete("events/a")
    server.delete("manual/a")
    zero = "0000000000000000_0000000000000000"
    assert server.shown()["streams"] == [{"path": "manual/a", "link_type": "explicit", "acked_offset": zero}]
    server.create("events/a", 2)
    server.create("manual/a", 2)
    told = server.claim()
    assert {stream["path"]: stream["acked_offset"] for stream in told["streams"]} == {
        "events/a": zero,
        "manual/a": zero,
    }


def test_d16_a_stream_that_expires_is_no_longer_pending(server: Subscribed) -> None:
    server.subscribe()
    server.create("events/a", 1, **{"Stream-TTL": "1"})
    server.settle()
    assert server.shown()["lag"]["streams"] == 1
    clock = server.store._pipeline.clock
    server.store._pipeline.clock = lambda: clock() + 2
    server.store.sweep()
    server.settle()
    assert server.shown()["lag"]["streams"] == 0
    assert server.shown()["streams"] == []


def test_r17_looking_at_streams_does_not_keep_them_alive(server: Subscribed) -> None:
    server.create("events/a", 1, **{"Stream-TTL": "100"})
    before = server.store.find("events/a").touched_at
    server.subscribe()
    server.append("events/a", 2)
    touched = server.store.find("events/a").touched_at
    server.settle()
    server.shown()
    server.claim()
    assert before <= touched == server.store.find("events/a").touched_at


def test_r18_a_fork_is_pending_from_its_fork_point(server: Subscribed) -> None:
    point = server.create("source", 1)
    server.subscribe()
    server.put("events/fork", b"", {"Stream-Forked-From": "source"})
    server.settle()
    assert server.shown()["lag"]["streams"] == 0
    tail = server.append("events/fork", 2)
    (stream,) = server.claim()["streams"]
    assert (stream["acked_offset"], stream["tail_offset"]) == (point, tail)


def test_a_duplicate_append_of_a_producer_wakes_nobody(server: Subscribed) -> None:
    producer = {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": "0"}
    server.create("events/a")
    server.subscribe()
    server.post("events/a", b"1", JSON | producer)
    assert server.ack(server.claim()).json["next_wake"] is False
    server.post("events/a", b"1", JSON | producer)
    server.settle()
    assert server.shown()["lag"]["streams"] == 0


# -- the wake stream in trouble ----------------------------------------------------------------------------------------


def close(server: Subscribed) -> None:
    server.post("wake/pool", b"", {"Stream-Closed": "true"})


@pytest.mark.parametrize(
    "spoil", [lambda server: server.delete("wake/pool"), close], ids=["deleted", "closed"]
)
def test_d13_a_wake_stream_that_takes_nothing_is_waited_for_without_burning_generations(
    server: Subscribed, spoil: Any
) -> None:
    server.subscribe()
    spoil(server)
    server.create("events/a", 1)
    for attempt in range(1, 4):
        server.settle()
        shown = server.shown()
        assert (shown["status"], shown["attempts"], shown["generation"]) == ("failed", attempt, 1)
        assert "the wake stream" in shown["last_error"]
        server.advance(2.0**attempt)
    if server.head("wake/pool").status_int == 200:
        server.delete("wake/pool")
    server.create("wake/pool")
    server.settle()
    server.advance(100)
    assert [event["generation"] for event in server.wake_events()] == [1]
    shown = server.shown()
    assert (shown["status"], shown["attempts"], shown["last_error"]) == ("active", 0, None)
    assert server.claim()["generation"] == 1


def test_d13_a_claim_needs_no_wake_event(server: Subscribed) -> None:
    server.subscribe()
    server.delete("wake/pool")
    server.create("events/a", 1)
    server.settle()
    assert server.ack(server.claim()).json["next_wake"] is False
    assert server.shown()["status"] == "active"


# -- extensions --------------------------------------------------------------------------------------------------------


def test_paused_answers_no_claim(server: Subscribed) -> None:
    server.subscribe(paused=True)
    server.create("events/a", 1)
    assert server.wake_events() == []
    refused = server.control("POST", "sub-1", "/claim", {"worker": "w"})
    assert error_of(refused) == (409, "NO_PENDING_WORK")


def test_max_attempts_counts_workers_that_say_nothing(server: Subscribed) -> None:
    server.create("dead")
    server.subscribe(max_attempts=2, dead_letter_stream="dead", lease_ttl_ms=1000)
    tail = server.create("events/a", 1)
    for _ in range(2):
        server.settle()
        server.claim()
        server.settle()
        server.advance(1.1)
    until(lambda: server.messages("dead"), "the dead letter")
    server.settle()
    (letter,) = server.messages("dead")
    assert letter["streams"] == [{"path": "events/a", "tail_offset": tail}]
    assert letter["error"] == "the lease ended without an acknowledgement"
    assert cursor(server, "events/a") == tail
    assert [event["generation"] for event in server.wake_events()] == [1, 2]


def test_start_at_an_offset(server: Subscribed) -> None:
    first = server.create("manual/a", 1)
    tail = server.append("manual/a", 2)
    server.subscribe(streams=["manual/a"], start=first)
    (stream,) = server.claim()["streams"]
    assert (stream["acked_offset"], stream["tail_offset"]) == (first, tail)
    refused = server.control(
        "PUT",
        "sub-2",
        document={
            "type": "pull-wake",
            "wake_stream": "wake/pool",
            "streams": ["manual/a"],
            "start": "elsewhere",
        },
    )
    assert error_of(refused) == (400, "INVALID_REQUEST")


def test_many_links_are_shown_and_told_in_bounds(open_server: OpenSubscribed) -> None:
    server = open_server()
    paths = [f"many/{number:04}" for number in range(1500)]
    server.subscribe(streams=paths)
    assert [link["path"] for link in server.shown()["streams"]] == paths
    server.create("many/0007", 1)
    told = server.claim()
    # Too many to be told of each time: only what is pending.
    assert [stream["path"] for stream in told["streams"]] == ["many/0007"]
