"""Webhooks from an append to the acked cursor (sections 6.5 and 7.1), with a receiver of every temper."""

from __future__ import annotations

import threading
from base64 import urlsafe_b64decode
from typing import Any

import gevent
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from durable_streams.protocol.subscriptions.state import Phase
from durable_streams.subscriptions.webhooks import client
from tests.servers import free_port
from tests.subscriptions.conftest import OpenSubscribed
from tests.subscriptions.driving import Subscribed, delivery, error_of, until
from tests.subscriptions.receiver import DONE, Delivery, Receiver, answer

TAKEN = answer({})
ERROR = answer({"done": True}, "503 Service Unavailable")


def subscribed(server: Subscribed, receiver: Receiver, **config: Any) -> Any:
    return server.subscribe(webhook={"url": receiver.url}, **config)


def cursor(server: Subscribed, path: str) -> str:
    links = {link["path"]: link["acked_offset"] for link in server.shown()["streams"]}
    return str(links[path])


def verify(server: Subscribed, sent: Delivery) -> None:
    """As a receiver does: the key by its id, the signature over the bytes. Raises InvalidSignature."""
    said = dict(part.split("=", 1) for part in sent.headers["webhook-signature"].split(","))
    keys = {key["kid"]: key for key in server.ask("GET", "jwks.json").json["keys"]}
    public = Ed25519PublicKey.from_public_bytes(decode(keys[said["kid"]]["x"]))
    public.verify(decode(said["ed25519"]), said["t"].encode() + b"." + sent.body)


def decode(text: str) -> bytes:
    assert "=" not in text
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


# -- the delivery ------------------------------------------------------------------------------------------------------


def test_r53_an_append_is_told_with_six_fields(server: Subscribed) -> None:
    with Receiver(TAKEN) as receiver:
        subscribed(server, receiver)
        tail = server.create("events/a", {"n": 1})
        told = delivery(receiver).document
        token = told.pop("callback_token")
        assert token.count(".") == 2
        wake_id = told.pop("wake_id")
        assert wake_id.startswith("w_")
        assert told == {
            "subscription_id": "sub-1",
            "generation": 1,
            "streams": [
                {
                    "path": "events/a",
                    "link_type": "glob",
                    "acked_offset": "0000000000000000_0000000000000000",
                    "tail_offset": tail,
                    "has_pending": True,
                }
            ],
            "callback_url": "http://localhost/v1/stream/__ds/subscriptions/sub-1/callback",
        }


def test_r53_the_callback_url_holds_any_id(server: Subscribed) -> None:
    with Receiver(TAKEN) as receiver:
        server.subscribe("runner:7 \N{EURO SIGN}?#%", webhook={"url": receiver.url})
        server.create("events/a", 1)
        told = delivery(receiver).document
        path = told["callback_url"].removeprefix("http://localhost")
        document = {"wake_id": told["wake_id"], "generation": 1, "done": True}
        response = server.ask("POST", path.removeprefix("/v1/stream/__ds/"), document, told["callback_token"])
        assert response.json == {"ok": True, "next_wake": True}


def test_r54_a_stream_that_is_created_with_a_body_counts_as_an_append(server: Subscribed) -> None:
    with Receiver() as receiver:
        subscribed(server, receiver)
        server.create("events/empty")
        server.settle()
        assert receiver.all_so_far() == []
        server.create("events/full", 1)
        assert [stream["path"] for stream in delivery(receiver).document["streams"]] == ["events/full"]


def test_r55_every_attempt_is_signed_anew_over_its_bytes(
    server: Subscribed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver(ERROR) as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        first = delivery(receiver)
        verify(server, first)
        monkeypatch.setattr("durable_streams.subscriptions.service.time", lambda: 1_900_000_000.0)
        server.settle()
        server.advance(2)
        second = delivery(receiver)
        assert "t=1900000000," in second.headers["webhook-signature"]
        verify(server, second)
        forged = Delivery(second.line, second.headers, second.body + b" ", 0, second.socket)
        with pytest.raises(InvalidSignature):
            verify(server, forged)


def test_r56_done_acks_the_snapshot(server: Subscribed) -> None:
    with Receiver() as receiver:
        subscribed(server, receiver)
        tail = server.create("events/a", 1)
        told = delivery(receiver).document
        assert told["streams"][0]["tail_offset"] == tail
        server.settle()
        assert cursor(server, "events/a") == tail
        assert server.shown()["wake"] is None


def test_r57_events_that_come_during_the_delivery_make_another_wake(server: Subscribed) -> None:
    arrived, go = threading.Event(), threading.Event()

    def wait(sent: Delivery) -> bytes:
        arrived.set()
        go.wait(30)
        return DONE

    with Receiver(wait) as receiver:
        subscribed(server, receiver)
        first_tail = server.create("events/a", 1)
        first = delivery(receiver).document
        second_tail = server.append("events/a", 2)
        go.set()
        second = delivery(receiver).document
        assert (first["generation"], second["generation"]) == (1, 2)
        assert first["wake_id"] != second["wake_id"]
        assert first["streams"][0]["tail_offset"] == first_tail
        assert second["streams"][0]["acked_offset"] == first_tail
        assert second["streams"][0]["tail_offset"] == second_tail


def test_many_appends_while_a_worker_is_busy_are_one_wake(server: Subscribed) -> None:
    with Receiver(TAKEN) as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        told = delivery(receiver).document
        for number in range(50):
            server.append("events/a", number)
        server.settle()
        assert receiver.all_so_far() == []
        assert server.ack(told, action="/callback").json == {"ok": True, "next_wake": True}
        assert delivery(receiver).document["generation"] == 2
        server.settle()
        assert receiver.all_so_far() == []


# -- callbacks ---------------------------------------------------------------------------------------------------------


def test_r58_a_worker_that_calls_back_later(server: Subscribed) -> None:
    with Receiver(TAKEN) as receiver:
        subscribed(server, receiver, lease_ttl_ms=5000)
        tail = server.create("events/a", 1)
        told = delivery(receiver).document
        server.settle()
        for _ in range(3):
            server.advance(4)
            beat = server.ack(told, acks=[], done=False, action="/callback")
            assert (beat.status_int, beat.json) == (200, {"ok": True, "next_wake": False})
        assert server.ack(told, action="/callback").json == {"ok": True, "next_wake": False}
        assert cursor(server, "events/a") == tail


def test_r58_a_callback_before_the_webhook_is_answered(server: Subscribed) -> None:
    told: list[Any] = []

    def call_back_first(sent: Delivery) -> bytes | None:
        told.append(sent.document)
        released.wait(30)
        return None

    released = threading.Event()
    with Receiver(call_back_first) as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        until(lambda: told, "the delivery")
        assert server.ack(told[0], action="/callback").json["next_wake"] is False
        released.set()
        server.settle()
        shown = server.shown()
        # The connection broke off after the worker had finished: no failure, and no other delivery.
        assert (shown["status"], shown["wake"], shown["attempts"]) == ("active", None, 0)
        assert len(told) == 1


def test_r59_a_callback_needs_the_token_of_this_subscription(server: Subscribed) -> None:
    with Receiver(TAKEN) as receiver:
        subscribed(server, receiver)
        server.subscribe("other", webhook={"url": receiver.url}, pattern="others/*")
        server.create("events/a", 1)
        told = delivery(receiver).document
        server.create("others/a", 1)
        foreign = delivery(receiver).document["callback_token"]
        for token in ("", "x", "a.b.c", told["callback_token"][:-1], told["callback_token"] + "x", foreign):
            response = server.ack(told | {"callback_token": token}, action="/callback")
            assert error_of(response) == (401, "TOKEN_INVALID"), token
            assert response.headers["WWW-Authenticate"] == "Bearer"
        assert server.ack(told, action="/callback").status_int == 200


def test_r60_a_callback_of_an_earlier_generation_is_fenced(server: Subscribed) -> None:
    with Receiver(TAKEN) as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        first = delivery(receiver).document
        assert server.ack(first, action="/callback").status_int == 200
        assert error_of(server.ack(first, action="/callback")) == (409, "FENCED")
        server.append("events/a", 2)
        second = delivery(receiver).document
        assert error_of(server.ack(first, action="/callback")) == (409, "FENCED")
        mixed = first | {"callback_token": second["callback_token"]}
        assert error_of(server.ack(mixed, action="/callback")) == (409, "FENCED")
        assert server.ack(second, action="/callback").status_int == 200


def test_r82_a_worker_that_is_silent_loses_its_lease_and_another_is_woken(server: Subscribed) -> None:
    with Receiver(TAKEN) as receiver:
        subscribed(server, receiver, lease_ttl_ms=1000)
        server.create("events/a", 1)
        first = delivery(receiver).document
        server.settle()
        server.advance(1.1)
        second = delivery(receiver).document
        assert second["generation"] == 2
        assert error_of(server.ack(first, action="/callback")) == (409, "FENCED")
        server.settle()
        assert server.shown()["last_error"] == "the lease ended without an acknowledgement"
        assert server.ack(second, action="/callback").json["next_wake"] is False


@pytest.mark.parametrize("action", ["/ack", "/release", "/claim"])
def test_r59_pull_wake_endpoints_are_not_for_webhooks(server: Subscribed, action: str) -> None:
    with Receiver(TAKEN) as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        told = delivery(receiver).document
        document = {"worker": "w", "wake_id": told["wake_id"], "generation": 1}
        response = server.control("POST", "sub-1", action, document, told["callback_token"])
        assert error_of(response) == (400, "INVALID_REQUEST")


# -- failures and retries ----------------------------------------------------------------------------------------------


def test_r61_a_failed_delivery_is_repeated_with_the_same_wake_after_growing_pauses(
    server: Subscribed,
) -> None:
    with Receiver(ERROR) as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        first = delivery(receiver).document
        for attempt in range(1, 5):
            server.settle()
            shown = server.shown()
            assert (shown["status"], shown["attempts"]) == ("failed", attempt)
            assert shown["last_error"] == "the receiver answered 503 Service Unavailable"
            wake = server.tracked().sub.wake
            assert wake is not None
            assert wake.next_attempt_at is not None
            wait_s = wake.next_attempt_at - server.registry.clock()
            assert 0.7 * 2 ** (attempt - 1) < wait_s <= 1.2 * 2 ** (attempt - 1)
            assert receiver.all_so_far() == []
            server.advance(wait_s + 0.001)
            again = delivery(receiver).document
            assert {key: again[key] for key in ("wake_id", "generation", "streams")} == {
                key: first[key] for key in ("wake_id", "generation", "streams")
            }


def test_r63_a_success_ends_the_failure(server: Subscribed) -> None:
    with Receiver(ERROR) as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        delivery(receiver)
        server.settle()
        assert server.shown()["next_attempt_at"] is not None
        receiver.behaviour = lambda sent: DONE
        server.advance(2)
        delivery(receiver)
        server.settle()
        shown = server.shown()
        assert (shown["status"], shown["attempts"], shown["last_error"]) == ("active", 0, None)
        assert shown["next_attempt_at"] is None


def test_the_log_says_once_that_a_receiver_fails_and_once_that_it_is_back(
    server: Subscribed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "durable_streams.subscriptions")
    with Receiver(ERROR) as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        for _ in range(3):
            delivery(receiver)
            server.settle()
            server.advance(70)
        receiver.behaviour = lambda sent: DONE
        server.advance(70)
        until(lambda: server.shown()["lag"]["streams"] == 0, "the ack")
        server.settle()
    assert [record.message for record in caplog.records] == [
        "subscription 'sub-1' fails: the receiver answered 503 Service Unavailable",
        "subscription 'sub-1' delivers again",
    ]


def test_a_receiver_that_nobody_reaches(server: Subscribed) -> None:
    port = free_port()
    server.subscribe(webhook={"url": f"http://127.0.0.1:{port}/"})
    server.create("events/a", 1)
    server.settle()
    shown = server.shown()
    assert shown["status"] == "failed"
    assert shown["last_error"].startswith(f"no connection to 127.0.0.1:{port}")


def test_d15_a_delivery_ends_with_the_lease_at_the_latest(server: Subscribed) -> None:
    release = threading.Event()

    def hold(sent: Delivery) -> bytes | None:
        release.wait(30)
        return None

    with Receiver(hold) as receiver:
        subscribed(server, receiver, lease_ttl_ms=1000)
        server.create("events/a", 1)
        delivery(receiver)
        until(lambda: server.shown()["attempts"], "the timeout")
        assert server.shown()["last_error"] == "no answer within 1 s"
        release.set()


@pytest.mark.parametrize("said", [b"not json", b"[]", b'{"done":"yes"}'])
def test_an_answer_that_is_nonsense_is_a_worker_that_will_call_back(server: Subscribed, said: bytes) -> None:
    with Receiver(f"HTTP/1.1 200 OK\r\nContent-Length: {len(said)}\r\n\r\n".encode() + said) as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        told = delivery(receiver).document
        server.settle()
        assert server.shown()["wake"]["phase"] == "held"
        assert server.ack(told, action="/callback").status_int == 200


def test_r24_deleting_ends_a_delivery_that_is_under_way(server: Subscribed) -> None:
    go = threading.Event()

    def wait(sent: Delivery) -> bytes:
        go.wait(30)
        return DONE

    with Receiver(wait) as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        told = delivery(receiver).document
        server.control("DELETE", "sub-1")
        assert error_of(server.ack(told, action="/callback")) == (404, "SUBSCRIPTION_NOT_FOUND")
        go.set()
        server.settle()
        subscribed(server, receiver)
        # The generation goes on, so the old token is worth nothing.
        server.append("events/a", 2)
        again = delivery(receiver).document
        assert again["generation"] == 2
        assert error_of(server.ack(told, action="/callback")) == (409, "FENCED")


def test_r25_deleting_ends_retries_and_leases(server: Subscribed) -> None:
    with Receiver(ERROR) as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        delivery(receiver)
        server.settle()
        server.control("DELETE", "sub-1")
        server.advance(100)
        server.settle()
        assert receiver.all_so_far() == []


# -- order and fairness ------------------------------------------------------------------------------------------------


def test_deliveries_of_one_subscription_follow_each_other(server: Subscribed) -> None:
    under_way, most = 0, 0
    lock = threading.Lock()

    def count(sent: Delivery) -> bytes:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        threading.Event().wait(0.005)
        with lock:
            under_way -= 1
        return DONE

    with Receiver(count) as receiver:
        subscribed(server, receiver)
        for number in range(20):
            server.create(f"events/{number}", 1)
            gevent.sleep(0.002)
        server.settle()
        generations = [sent.document["generation"] for sent in receiver.all_so_far()]
        assert generations == list(range(1, len(generations) + 1))
        assert most == 1
        assert server.shown()["lag"]["streams"] == 0


def test_a_slow_receiver_holds_up_no_other_subscription(open_server: OpenSubscribed) -> None:
    server = open_server(subscriptions={"parallel_deliveries": 2})
    go = threading.Event()

    def wait(sent: Delivery) -> bytes:
        go.wait(30)
        return DONE

    with Receiver(wait) as slow, Receiver() as fast:
        server.subscribe("slow", webhook={"url": slow.url})
        server.subscribe("fast", webhook={"url": fast.url})
        for number in range(5):
            server.create(f"events/{number}", 1)
            delivery(fast)
        assert len(slow.all_so_far()) == 1
        go.set()


def test_more_deliveries_than_may_be_at_once_wait_in_line(open_server: OpenSubscribed) -> None:
    server = open_server(subscriptions={"parallel_deliveries": 2})
    go, arrived = threading.Event(), threading.Semaphore(0)

    def wait(sent: Delivery) -> bytes:
        arrived.release()
        go.wait(30)
        return DONE

    with Receiver(wait) as receiver:
        for number in range(6):
            server.subscribe(f"sub-{number}", webhook={"url": receiver.url})
        server.create("events/a", 1)
        until(lambda: receiver.deliveries.qsize() == 2, "two deliveries")
        until(lambda: len(server.dispatcher._crews.deliveries._line) == 4, "four in line")
        assert receiver.deliveries.qsize() == 2
        go.set()
        until(lambda: receiver.deliveries.qsize() == 6, "the others")
        server.settle()
        for number in range(6):
            assert server.shown(f"sub-{number}")["lag"]["streams"] == 0


def test_a_step_that_fails_for_no_known_reason_is_taken_again(
    server: Subscribed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = iter([RuntimeError("boom")])
    post = client.WebhookClient.post

    def fail_once(self: Any, *arguments: Any) -> Any:
        for failure in failures:
            raise failure
        return post(self, *arguments)

    monkeypatch.setattr(client.WebhookClient, "post", fail_once)
    with Receiver() as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        until(lambda: server.tracked().rest_until, "the failure")
        server.advance(1.1)
        assert delivery(receiver).document["generation"] == 1
    assert "a step of subscription 'sub-1' failed" in caplog.text


# -- extensions --------------------------------------------------------------------------------------------------------


def test_max_attempts_writes_a_dead_letter_and_goes_on(server: Subscribed) -> None:
    server.create("dead")
    with Receiver(ERROR) as receiver:
        subscribed(server, receiver, max_attempts=2, dead_letter_stream="dead")
        tail = server.create("events/bad", 1)
        first = delivery(receiver).document
        server.settle()
        server.advance(2)
        delivery(receiver)
        server.settle()
        letters = server.messages("dead")
        ts = letters[0].pop("ts")
        assert isinstance(ts, int)
        assert letters == [
            {
                "type": "dead-letter",
                "subscription_id": "sub-1",
                "wake_id": first["wake_id"],
                "generation": 1,
                "streams": [{"path": "events/bad", "tail_offset": tail}],
                "attempts": 2,
                "error": "the receiver answered 503 Service Unavailable",
            }
        ]
        assert cursor(server, "events/bad") == tail
        receiver.behaviour = lambda sent: DONE
        server.create("events/good", 1)
        assert delivery(receiver).document["generation"] == 2


def test_a_dead_letter_stream_that_has_gone_is_waited_for(server: Subscribed) -> None:
    server.create("dead")
    with Receiver(ERROR) as receiver:
        subscribed(server, receiver, max_attempts=1, dead_letter_stream="dead")
        server.delete("dead")
        server.create("events/bad", 1)
        delivery(receiver)
        server.settle()
        shown = server.shown()
        assert (shown["status"], shown["wake"]["phase"]) == ("failed", Phase.CONDEMNED.value)
        assert "dead-letter stream" in shown["last_error"]
        server.create("dead")
        server.advance(2)
        until(lambda: server.messages("dead"), "the dead letter")
        server.settle()
        assert server.shown()["wake"] is None


def test_batch_ms_gathers_what_comes_together(server: Subscribed) -> None:
    with Receiver() as receiver:
        subscribed(server, receiver, batch_ms=60_000)
        for number in range(5):
            server.create(f"events/{number}", 1)
        server.settle()
        assert receiver.all_so_far() == []
        server.advance(60)
        told = delivery(receiver).document
        assert [stream["path"] for stream in told["streams"]] == [f"events/{number}" for number in range(5)]


def test_paused_keeps_everything_for_later(server: Subscribed) -> None:
    with Receiver() as receiver:
        config = {"type": "webhook", "pattern": "events/*", "webhook": {"url": receiver.url}}
        assert subscribed(server, receiver, paused=True)["paused"] is True
        server.create("events/a", 1)
        server.settle()
        assert receiver.all_so_far() == []
        assert server.shown()["lag"]["streams"] == 1
        resumed = server.control("PUT", "sub-1", document=config | {"paused": False})
        assert (resumed.status_int, resumed.json["paused"]) == (200, False)
        assert delivery(receiver).document["generation"] == 1


def test_on_close_tells_the_end_of_a_stream(server: Subscribed) -> None:
    with Receiver() as receiver:
        subscribed(server, receiver, on_close=True)
        tail = server.create("events/a", 1)
        assert delivery(receiver).document["streams"][0]["closed"] is False
        server.settle()
        server.post("events/a", b"", {"Stream-Closed": "true"})
        told = delivery(receiver).document["streams"][0]
        assert (told["closed"], told["acked_offset"], told["tail_offset"]) == (True, tail, tail)
        server.settle()
        assert server.shown()["lag"]["streams"] == 0
        assert receiver.all_so_far() == []


def test_d17_without_it_a_close_without_data_tells_nobody(server: Subscribed) -> None:
    with Receiver() as receiver:
        subscribed(server, receiver)
        server.create("events/a", 1)
        delivery(receiver)
        server.settle()
        server.post("events/a", b"", {"Stream-Closed": "true"})
        server.settle()
        assert receiver.all_so_far() == []


def test_start_at_the_beginning_replays_what_was_there(server: Subscribed) -> None:
    server.create("events/old", 1)
    with Receiver() as receiver:
        subscribed(server, receiver, start="beginning")
        told = delivery(receiver).document
        assert [stream["path"] for stream in told["streams"]] == ["events/old"]
