"""What a restart finds, in every durable mode: cursors, wakes, leases, schedules, and what came meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durable_streams.storage.files import FileStorage
from durable_streams.storage.zodb import AcidStorage
from durable_streams.streams.copying import copy_streams
from durable_streams.subscriptions import compaction
from durable_streams.subscriptions.registry import FOLDER
from durable_streams.subscriptions.tombstones import KEPT_S
from tests.contract.driving import DURABLE_KINDS, Kind
from tests.subscriptions.driving import Subscribed, delivery, error_of, until
from tests.subscriptions.receiver import Receiver, answer
from tests.web.driving import Server

Restart = Callable[..., Subscribed]
ERROR = answer(None, "500 Internal Server Error")
RESTARTED_USUALLY = ("file-durable", "postgres")
"""What `make test` restarts: a storage of one process and one that several share."""


@pytest.fixture(params=[kind.param(is_long=kind.name not in RESTARTED_USUALLY) for kind in DURABLE_KINDS])
def restart(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restart]:
    """Starts a server over the same directory; the one before it has ended."""
    kind: Kind = request.param
    running: list[Subscribed] = []

    def start(**sections: object) -> Subscribed:
        while running:
            running.pop().close()
        running.append(Subscribed(kind.build(tmp_path / "data"), **sections))
        return running[0]

    yield start
    for server in running:
        server.close()


def without_subscriptions(server: Subscribed) -> Subscribed:
    """The dispatcher is dead: nothing is noticed, as while a process is down."""
    server.settle()
    server.subscriptions.close()
    server.service.listeners.remove(server.dispatcher)
    return server


def test_r5_everything_of_a_subscription_is_there_again(restart: Restart) -> None:
    server = restart()
    for number in range(700):
        server.create(f"events/{number:03}", number)
    server.subscribe(
        "a/b".replace("/", ":"), streams=["manual/a"], pattern="events/*", description="\N{EURO SIGN}"
    )
    server.create("events/new", 1)
    told = server.claim("a:b")
    assert server.ack(told, "a:b").json["next_wake"] is False
    server.append("events/new", 2)
    server.claim("a:b")
    before = server.shown("a:b")
    server = restart()
    server.settle()
    assert server.shown("a:b") == before


def test_r51_generations_go_on(restart: Restart) -> None:
    for generation in range(1, 4):
        server = restart()
        if generation == 1:
            server.subscribe()
            server.create("events/a", 0)
        else:
            server.settle()
            server.append("events/a", generation)
        told = server.claim()
        assert told["generation"] == generation
        assert server.ack(told).json["next_wake"] is False


def test_w1_an_append_whose_wake_was_not_recorded_is_found(restart: Restart) -> None:
    server = restart()
    server.subscribe(streams=["manual/a"], pattern="events/*")
    server.create("events/a", 1)
    server.create("manual/a", 1)
    assert server.ack(server.claim()).json["next_wake"] is False
    without_subscriptions(server)
    server.append("events/a", 2)
    server.append("manual/a", 2)
    server = restart()
    server.settle()
    assert server.shown()["lag"]["streams"] == 2
    # The first wake was claimed, so it may have been announced before or not.
    assert [event["generation"] for event in server.wake_events()] in ([2], [1, 2])


def test_w7_a_stream_that_was_created_meanwhile_is_pending_from_its_start(restart: Restart) -> None:
    server = restart()
    server.create("events/old", 1)
    server.subscribe()
    without_subscriptions(server)
    tail = server.create("events/new", 1)
    server = restart()
    server.settle()
    (stream,) = [stream for stream in server.claim()["streams"] if stream["has_pending"]]
    assert (stream["path"], stream["tail_offset"]) == ("events/new", tail)
    assert stream["acked_offset"].endswith("0" * 16)


def test_w10_a_stream_that_was_created_again_meanwhile_is_pending_from_its_start(restart: Restart) -> None:
    server = restart()
    server.subscribe(streams=["manual/a"], pattern="events/*")
    for path in ("events/a", "manual/a"):
        server.create(path, "long" * 100)
    assert server.ack(server.claim()).json["next_wake"] is False
    without_subscriptions(server)
    for path in ("events/a", "manual/a"):
        server.delete(path)
        server.create(path, 1)
    server = restart()
    server.settle()
    told = server.claim()
    assert {stream["path"]: stream["has_pending"] for stream in told["streams"]} == {
        "events/a": True,
        "manual/a": True,
    }


def test_w2_a_wake_whose_event_was_not_written_is_announced(restart: Restart) -> None:
    server = restart()
    server.subscribe()
    server.settle()
    server.dispatcher._take_step = lambda tracked, step: None
    server.create("events/a", 1)
    from durable_streams.protocol.subscriptions.requests import WakeUp

    server.registry.update("sub-1", WakeUp("w_before"))
    assert server.messages("wake/pool") == []
    server = restart()
    assert [event["generation"] for event in server.wake_events()] == [1]
    assert server.claim()["wake_id"] == "w_before"


def test_w3_a_wake_event_is_not_written_twice(restart: Restart) -> None:
    server = restart()
    server.subscribe()
    server.create("events/a", 1)
    assert len(server.wake_events()) == 1
    server = restart()
    assert len(server.wake_events()) == 1
    assert server.claim()["generation"] == 1


def test_w4_a_cursor_that_was_acked_stays_and_the_repeated_ack_is_fenced(restart: Restart) -> None:
    server = restart()
    server.subscribe()
    tail = server.create("events/a", 1)
    told = server.claim()
    server.ack(told)
    server = restart()
    assert error_of(server.ack(told)) == (409, "FENCED")
    assert server.shown()["streams"][0]["acked_offset"] == tail


def test_w5_a_lease_is_honoured_by_the_next_process(restart: Restart) -> None:
    server = restart()
    server.subscribe(lease_ttl_ms=60_000)
    server.create("events/a", 1)
    told = server.claim()
    server = restart()
    refused = server.control("POST", "sub-1", "/claim", {"worker": "other"})
    assert error_of(refused) == (409, "ALREADY_CLAIMED")
    assert server.ack(told, acks=[], done=False).status_int == 200
    server.settle()
    server.advance(61)
    assert server.claim()["generation"] == 2
    assert error_of(server.ack(told)) == (409, "FENCED")


def test_w11_a_clock_that_was_set_back_makes_no_lease_longer(restart: Restart) -> None:
    server = restart()
    server.subscribe(lease_ttl_ms=1000)
    server.leases.ahead = 86_400
    server.create("events/a", 1)
    server.claim()
    server = restart()
    server.settle()
    server.advance(1.1)
    server.settle()
    assert server.claim()["generation"] == 2


def test_r62_the_schedule_of_retries_is_honoured(restart: Restart) -> None:
    with Receiver(ERROR) as receiver:
        server = restart()
        server.subscribe(webhook={"url": receiver.url})
        server.create("events/a", 1)
        first = delivery(receiver).document
        for _ in range(5):
            server.settle()
            server.advance(70)
            delivery(receiver)
        server.settle()
        before = server.shown()
        ahead = server.leases.ahead
        server = restart()
        server.leases.ahead = ahead
        server.settle()
        shown = server.shown()
        assert (shown["status"], shown["attempts"]) == ("failed", 6)
        assert abs(_seconds(shown["next_attempt_at"]) - _seconds(before["next_attempt_at"])) <= 1
        assert receiver.all_so_far() == []
        server.advance(70)
        again = delivery(receiver).document
        assert (again["wake_id"], again["generation"]) == (first["wake_id"], 1)


def _seconds(timestamp: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(timestamp).timestamp()


def test_w2_a_webhook_that_was_cut_off_is_delivered_again(restart: Restart) -> None:
    import threading

    go = threading.Event()
    with Receiver(lambda sent: (go.wait(30), None)[1]) as receiver:
        server = restart()
        server.subscribe(webhook={"url": receiver.url})
        server.create("events/a", 1)
        first = delivery(receiver).document
        go.set()
        receiver.behaviour = lambda sent: answer({"done": True})
        server = restart()
        server.settle()
        server.advance(2)
        again = delivery(receiver).document
        assert (again["wake_id"], again["generation"], again["streams"]) == (
            first["wake_id"],
            1,
            first["streams"],
        )
        until(lambda: server.shown()["lag"]["streams"] == 0, "the ack")


def test_d11_a_deleted_id_goes_on_with_its_generation(restart: Restart) -> None:
    server = restart()
    server.subscribe()
    server.create("events/a", 1)
    told = server.claim()
    server.control("DELETE", "sub-1")
    server = restart()
    assert error_of(server.control("GET", "sub-1")) == (404, "SUBSCRIPTION_NOT_FOUND")
    server.subscribe()
    server.append("events/a", 2)
    assert server.claim()["generation"] == 2
    assert error_of(server.ack(told)) == (409, "FENCED")
    server = restart()
    server.settle()
    assert server.shown()["generation"] == 2


def test_a_tombstone_goes_in_the_end(restart: Restart) -> None:
    server = restart()
    server.subscribe()
    server.control("DELETE", "sub-1")
    server = restart()
    server.settle()
    assert server.store.histories.keys(FOLDER) == ["subscriptions/sub-1"]
    server.leases.ahead = KEPT_S - 60
    server.registry.tombstones.clear_old(server.registry.clock())
    assert len(server.registry.tombstones) == 1
    server.leases.ahead = KEPT_S + 60
    server.registry.tombstones.clear_old(server.registry.clock())
    assert server.store.histories.keys(FOLDER) == []
    server = restart()
    server.subscribe()
    assert server.shown()["generation"] == 0


def test_a_long_history_is_begun_anew_and_means_the_same(
    restart: Restart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "COMPACT_BYTES", 2000)
    server = restart()
    server.subscribe(streams=["manual/a"], pattern="events/*")
    for number in range(60):
        server.create(f"events/{number}", number)
        assert server.ack(server.claim()).json["next_wake"] is False
        if number % 2:
            server.delete(f"events/{number}")
    server.settle()
    tracked = server.tracked()
    assert tracked.version is not None
    assert tracked.version.size < 2 * tracked.snapshot_bytes + 2000
    # The links of streams that have gone went with it.
    assert len(tracked.sub.links) < 50
    before = server.shown()
    server = restart()
    server.settle()
    assert server.shown() == before
    assert len(before["streams"]) == 31


@pytest.mark.parametrize("record", [b'[["Invented",{}]]\n', b'[["Ended",{"reason":"done"}]]\n', b"\xff"])
def test_a_history_that_cannot_be_read_concerns_its_subscription_alone(
    restart: Restart, caplog: pytest.LogCaptureFixture, record: bytes
) -> None:
    server = restart()
    server.subscribe("good")
    server.subscribe("bad", wake_stream="wake/bad")
    version = server.store.histories.version(FOLDER + "bad")
    assert version is not None
    server.store.histories.extend(FOLDER + "bad", record, version)
    server = restart()
    server.settle()
    assert "subscription 'bad' cannot be loaded" in caplog.text
    for method in ("GET", "PUT", "DELETE"):
        document = {"type": "pull-wake", "pattern": "x/*", "wake_stream": "wake/pool"}
        response = server.control(method, "bad", document=document if method == "PUT" else None)
        assert error_of(response) == (500, "INTERNAL_ERROR")
    server.create("events/a", 1)
    assert server.ack(server.claim("good"), "good").json["next_wake"] is False
    assert server.store.histories.version(FOLDER + "bad") is not None


def test_ten_thousand_links_and_one_ack_are_one_small_write(restart: Restart) -> None:
    server = restart()
    server.subscribe(streams=[f"manual/{number}" for number in range(10_000)])
    server.create("manual/77", 1)
    before = server.store.histories.version(FOLDER + "sub-1")
    assert server.ack(server.claim()).status_int == 200
    after = server.store.histories.version(FOLDER + "sub-1")
    assert before is not None
    assert after is not None
    assert after.uid == before.uid
    assert after.size - before.size < 600


def test_a_copy_into_another_storage_takes_subscriptions_and_keys_along(tmp_path: Path) -> None:
    source = FileStorage(tmp_path / "files", durable=True)
    target = AcidStorage(tmp_path / "acid", 2)
    server = Subscribed(source)
    server.subscribe()
    server.create("events/a", 1)
    told = server.claim()
    server.append("events/a", 2)
    before, keys = server.shown(), server.get("__ds/jwks.json").json
    server.close()
    source.open()
    target.open()
    assert copy_streams(source, target, lambda count: None).problems == []
    source.close()
    target.close()
    server = Subscribed(target)
    server.settle()
    assert (server.shown(), server.get("__ds/jwks.json").json) == (before, keys)
    assert server.ack(told).json == {"ok": True, "next_wake": True}
    server.close()


def test_d22_memory_keeps_nothing(tmp_path: Path) -> None:
    server = Subscribed()
    server.subscribe()
    server.close()
    again = Subscribed()
    assert error_of(again.control("GET", "sub-1")) == (404, "SUBSCRIPTION_NOT_FOUND")
    again.close()


def test_a_server_without_subscriptions_leaves_those_that_are_there_alone(tmp_path: Path) -> None:
    kind = DURABLE_KINDS[0]
    server = Subscribed(kind.build(tmp_path / "data"))
    server.subscribe()
    server.close()
    plain = Server(kind.build(tmp_path / "data"), subscriptions={"enabled": False})
    assert plain.get("__ds/subscriptions/sub-1").status_int == 404
    plain.close()
    again = Subscribed(kind.build(tmp_path / "data"))
    assert again.shown()["id"] == "sub-1"
    again.close()
