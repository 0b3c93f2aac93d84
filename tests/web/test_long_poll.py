"""Long-polls in process (sections 5.7 and 10.1): what ends the wait, what is answered, and which cursor."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest
from gevent import socket

from durable_streams.protocol.caching import CURSOR_EPOCH_S, CURSOR_INTERVAL_S
from durable_streams.protocol.state import StreamState
from tests.web.conftest import OpenServer
from tests.web.driving import CLOSE, JSON, PATIENCE_S, START, TEXT, Reader, Server

INTERVAL = (int(START) - CURSOR_EPOCH_S) // CURSOR_INTERVAL_S
MANY = 10_000
FOR_EVER = {"long_poll_timeout_secs": 3600}


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    """Nothing but an event ends a wait here."""
    server = open_server(server=FOR_EVER)
    server.put("s", b"old", TEXT)
    return server


def waiting(server: Server, name: str = "s", **environ: object) -> Reader:
    reader = server.reading(f"{name}?offset={server.tail(name)}&live=long-poll", **environ)
    assert reader.is_waiting
    return reader


def test_data_that_is_there_is_answered_at_once_with_a_cursor(server: Server) -> None:
    answer = server.get("s?offset=-1&live=long-poll")
    assert (answer.status_int, answer.body) == (200, b"old")
    assert answer.headers["Stream-Cursor"] == str(INTERVAL)
    assert answer.headers["Stream-Up-To-Date"] == "true"
    assert answer.headers["Stream-Next-Offset"] == server.tail("s")
    assert "ETag" in answer.headers
    assert answer.headers["Cache-Control"].startswith("public")
    known = server.get("s?offset=-1&live=long-poll", {"If-None-Match": answer.headers["ETag"]})
    assert (known.status_int, known.headers["Stream-Cursor"]) == (304, str(INTERVAL))


def test_only_an_event_stream_is_resumed_by_a_last_event_id(server: Server) -> None:
    answer = server.get("s?offset=-1&live=long-poll", {"Last-Event-ID": server.tail("s")})
    assert (answer.status_int, answer.body) == (200, b"old")


def test_a_page_that_does_not_reach_the_tail_is_not_marked(open_server: OpenServer) -> None:
    server = open_server(limits={"max_read_bytes": 2})
    server.put("s", b"abc", {**TEXT, **CLOSE})
    answer = server.get("s?offset=-1&live=long-poll")
    assert (answer.body, "Stream-Cursor" in answer.headers) == (b"ab", True)
    assert {"Stream-Up-To-Date", "Stream-Closed"}.isdisjoint(answer.headers)


def test_an_append_answers_everybody_who_waits(server: Server) -> None:
    readers = [waiting(server) for _ in range(10)]
    other_stream = server.put("other", b"x", TEXT) and waiting(server, "other")
    server.post("s", b"new", TEXT)
    for reader in readers:
        assert (reader.rest(), reader.status) == (b"new", 200)
        assert reader.headers["Stream-Next-Offset"] == server.tail("s")
        assert reader.headers["Stream-Up-To-Date"] == "true"
        assert "Stream-Closed" not in reader.headers
    assert other_stream.is_waiting
    other_stream.leave()


def test_one_append_answers_ten_thousand_who_wait(server: Server) -> None:
    target = f"s?offset={server.tail('s')}&live=long-poll"
    readers = [Reader(server.flask, target, {}, {}) for _ in range(MANY)]
    while server.service.hub.watchers < MANY:
        gevent.sleep(0)
    server.post("s", b"new", TEXT)
    assert {(reader.rest(), reader.status) for reader in readers} == {(b"new", 200)}
    assert server.service.hub.watchers == 0


def test_json_is_answered_as_an_array(server: Server) -> None:
    server.put("j", b"[]", JSON)
    reader = waiting(server, "j")
    server.post("j", b'[{"a":1},2]', JSON)
    assert reader.rest() == b'[{"a":1},2]'


def test_the_last_append_is_answered_as_the_last(server: Server) -> None:
    reader = waiting(server)
    server.post("s", b"end", {**TEXT, **CLOSE})
    assert (reader.rest(), reader.status, reader.headers["Stream-Closed"]) == (b"end", 200, "true")


def test_a_close_without_data_is_answered_with_204(server: Server) -> None:
    reader = waiting(server)
    server.post("s", headers=CLOSE)
    assert (reader.rest(), reader.status) == (b"", 204)
    assert reader.headers["Stream-Closed"] == reader.headers["Stream-Up-To-Date"] == "true"
    assert reader.headers["Stream-Next-Offset"] == server.tail("s")
    assert reader.headers["Cache-Control"] == "no-store"
    assert "Etag" not in reader.headers


def test_at_the_end_of_a_closed_stream_nobody_waits(server: Server) -> None:
    server.post("s", headers=CLOSE)
    for offset in (server.tail("s"), "now"):
        answer = server.get(f"s?offset={offset}&live=long-poll")
        assert (answer.status_int, answer.headers["Stream-Closed"]) == (204, "true")
        assert answer.headers["Stream-Up-To-Date"] == "true"


def test_now_waits_for_what_is_yet_to_come(server: Server) -> None:
    reader = server.reading("s?offset=now&live=long-poll")
    assert reader.is_waiting
    server.post("s", b"new", TEXT)
    assert reader.rest() == b"new"
    assert reader.headers["Stream-Cursor"] == str(INTERVAL)
    # For whoever asks later, now is another place: no cache may answer for us.
    assert reader.headers["Cache-Control"] == "no-store"
    assert "Etag" not in reader.headers


def test_a_delete_is_answered_with_404(server: Server) -> None:
    reader = waiting(server)
    server.delete("s")
    assert b"NOT_FOUND" in reader.rest()
    assert reader.status == 404


def test_a_delete_of_what_forks_still_read_is_answered_with_410(server: Server) -> None:
    server.put("fork", headers={"Stream-Forked-From": "s"})
    reader = waiting(server)
    server.delete("s")
    reader.rest()
    assert reader.status == 410


def test_a_stream_that_took_the_name_is_not_what_was_waited_for(server: Server) -> None:
    reader = waiting(server)
    server.delete("s")
    server.put("s", b"another and longer", TEXT)
    reader.rest()
    assert reader.status == 404


def test_an_append_to_the_source_does_not_wake_who_waits_at_a_fork(server: Server) -> None:
    server.put("fork", headers={"Stream-Forked-From": "s"})
    assert server.get("fork?offset=-1&live=long-poll").body == b"old"
    reader = waiting(server, "fork")
    server.post("s", b"not for forks", TEXT)
    gevent.sleep(0)
    assert reader.is_waiting
    server.post("fork", b"own", TEXT)
    assert reader.rest() == b"own"


def test_the_stop_answers_with_204_and_those_that_come_later_too(server: Server) -> None:
    reader = waiting(server)
    server.service.stop_live()
    assert (reader.rest(), reader.status) == (b"", 204)
    assert "Stream-Closed" not in reader.headers
    assert server.get("s?offset=now&live=long-poll").status_int == 204


def test_after_its_time_a_wait_is_answered_with_204_and_a_cursor(open_server: OpenServer) -> None:
    server = open_server(server={"long_poll_timeout_secs": 0.01})
    server.put("s", b"old", TEXT)
    answer = server.get("s?offset=now&live=long-poll")
    assert (answer.status_int, answer.body) == (204, b"")
    assert answer.headers["Stream-Up-To-Date"] == "true"
    assert answer.headers["Stream-Next-Offset"] == server.tail("s")
    assert answer.headers["Stream-Cursor"] == str(INTERVAL)
    assert answer.headers["Cache-Control"] == "no-store"
    assert {"ETag", "Stream-Closed"}.isdisjoint(answer.headers)


def just_after_the_look(server: Server, act: Callable[[], object]) -> None:
    """Have ``act`` happen when a reader has looked at the stream for the last time, and before it waits."""
    find = server.store.find
    looks = 0

    def find_and_act(name: str) -> StreamState:
        nonlocal looks
        state = find(name)
        looks += 1
        # The first look is the request's own, the second the one that the wait begins with.
        if looks == 2:
            server.store.find = find
            act()
        return state

    server.store.find = find_and_act  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (lambda server: server.post("s", b"new", TEXT), 200),
        (lambda server: server.post("s", b"", CLOSE), 204),
        (lambda server: server.delete("s"), 404),
        (lambda server: server.service.stop_live(), 204),
    ],
    ids=["append", "close", "delete", "stop"],
)
def test_what_happens_between_the_look_and_the_wait_is_not_missed(
    server: Server, act: Callable[[Server], object], status: int
) -> None:
    tail = server.tail("s")
    just_after_the_look(server, lambda: act(server))
    with gevent.Timeout(PATIENCE_S):
        assert server.get(f"s?offset={tail}&live=long-poll").status_int == status


def test_a_client_that_hangs_up_is_not_waited_for(server: Server) -> None:
    ours, theirs = socket.socketpair()
    reader = waiting(server, **{"gunicorn.socket": ours})
    assert server.service.hub.watchers == 1
    theirs.close()
    reader.rest()
    assert server.service.hub.watchers == 0
    ours.close()


def test_nothing_is_left_of_a_reader_that_was_answered(server: Server) -> None:
    for _ in range(3):
        reader = waiting(server)
        server.post("s", b"x", TEXT)
        reader.rest()
    killed = waiting(server)
    killed.leave()
    hub = server.service.hub
    assert (hub.watchers, hub._events, hub._watchers) == (0, {}, {})


# -- cursors -----------------------------------------------------------------------------------------------------


def cursor_for(server: Server, cursor: str) -> int:
    return int(server.get(f"s?offset=-1&live=long-poll&cursor={cursor}").headers["Stream-Cursor"])


@pytest.mark.parametrize("cursor", ["", "abc", "-5", "1.5", "%D9%A1", "0", "1", str(INTERVAL - 1), "000"])
def test_a_cursor_that_is_behind_or_none_gets_the_current_interval(server: Server, cursor: str) -> None:
    assert cursor_for(server, cursor) == INTERVAL


@pytest.mark.parametrize("ahead", [0, 1, 1000, 10**6, 10**30])
def test_a_cursor_that_is_not_behind_moves_on_by_the_jitter(server: Server, ahead: int) -> None:
    for _ in range(20):
        moved = cursor_for(server, str(INTERVAL + ahead)) - (INTERVAL + ahead)
        assert 1 <= moved <= 3600 // CURSOR_INTERVAL_S


def test_a_cursor_of_absurd_length_still_moves_on(server: Server) -> None:
    cursor = "9" * 10_000
    answer = server.get(f"s?offset=-1&live=long-poll&cursor={cursor}").headers["Stream-Cursor"]
    assert (len(answer), answer) > (len(cursor), cursor)


def test_a_client_that_echoes_its_cursor_never_sees_it_go_back(server: Server) -> None:
    cursor = 0
    for step in range(50):
        server.clock.now += step % 3 * 11 - 5
        following = cursor_for(server, str(cursor))
        assert following > cursor or step == 0
        cursor = following
