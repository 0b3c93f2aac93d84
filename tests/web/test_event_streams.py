"""Server-Sent Events in process (section 5.8): events and their order, what ends a connection, resuming."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent import socket
from werkzeug.test import Client

from durable_streams.eventloop.live_socket import LIVE_SOCKET
from durable_streams.live.events import EVENT_BYTES_MAX
from durable_streams.web.reads import live_reads
from durable_streams.worker.client_socket import ClientSocket
from tests.event_streams import Event
from tests.web.conftest import OpenServer
from tests.web.driving import BASE, BYTES, CLOSE, JSON, TEXT, Reader, Server
from tests.web.test_long_poll import INTERVAL, just_after_the_look

ENDLESS = {"sse_reconnect_interval_secs": 0, "sse_heartbeat_secs": 3600}


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    """Nothing but an event moves an event stream here."""
    server = open_server(server=ENDLESS)
    server.put("s", b"old", TEXT)
    return server


def following(server: Server, name: str = "s", offset: str = "-1", **environ: object) -> Reader:
    return server.reading(f"{name}?offset={offset}&live=sse", **environ)


RETRY = re.compile(rb"retry: ([0-9]+)\n\n")


def text_of(events: list[Event]) -> str:
    return "".join(event.data for event in events if event.kind == "data")


def test_the_answer_is_an_event_stream_that_nobody_keeps(server: Server) -> None:
    reader = following(server)
    reader.caught_up()
    assert reader.status == 200
    assert reader.headers["Content-Type"] == "text/event-stream"
    assert reader.headers["Cache-Control"] == "no-cache"
    assert reader.headers["X-Accel-Buffering"] == "no"
    assert {"Etag", "Content-Length", "Stream-Sse-Data-Encoding"}.isdisjoint(reader.headers)
    reader.leave()


def test_every_data_event_is_followed_by_its_control(server: Server) -> None:
    reader = following(server)
    data, control = reader.event(), reader.event()
    assert (data.kind, data.data, control.kind) == ("data", "old", "control")
    assert control.fields == {
        "streamNextOffset": server.tail("s"),
        "streamCursor": str(INTERVAL),
        "upToDate": True,
    }
    assert data.id == control.id == server.tail("s")
    for number in range(3):
        server.post("s", b"%d" % number, TEXT)
        data, control = reader.event(), reader.event()
        assert (data.data, control.fields["streamNextOffset"]) == (str(number), server.tail("s"))
        assert control.fields["upToDate"] is True
    reader.leave()


def test_a_reader_at_the_tail_is_told_so_first(server: Server) -> None:
    for offset in (server.tail("s"), "now"):
        reader = following(server, offset=offset)
        control = reader.event()
        assert control.kind == "control"
        assert control.fields["streamNextOffset"] == server.tail("s")
        assert control.fields["upToDate"] is True
        reader.leave()
    server.put("empty", headers=TEXT)
    reader = following(server, "empty")
    assert reader.event().fields["upToDate"] is True
    server.post("empty", b"x", TEXT)
    assert [event.kind for event in reader.caught_up()] == ["data", "control"]
    reader.leave()


def test_only_the_last_of_many_events_is_up_to_date(server: Server) -> None:
    body = bytes(range(256)) * (3 * EVENT_BYTES_MAX // 256)
    server.put("b", body, BYTES)
    reader = following(server, "b")
    assert reader.headers["Stream-Sse-Data-Encoding"] == "base64"
    events = reader.caught_up()
    assert [event.kind for event in events] == ["data", "control"] * 3
    assert ["upToDate" in event.fields for event in events[1::2]] == [False, False, True]
    assert b"".join(b64decode(event.data) for event in events[::2]) == body
    reader.leave()


def test_bytes_go_as_base64_of_each_event(server: Server) -> None:
    server.put("b", b"\x00\xff\n", BYTES)
    reader = following(server, "b")
    assert b64decode(reader.event().data, validate=True) == b"\x00\xff\n"
    server.post("b", b"\x01", BYTES)
    reader.event()
    assert b64decode(reader.event().data, validate=True) == b"\x01"
    reader.leave()


def test_json_goes_as_arrays_of_whole_messages(server: Server) -> None:
    server.put("j", b'[{"a":1},1e400]', JSON)
    reader = following(server, "j")
    assert reader.caught_up()[0].data == '[{"a":1},1e400]'
    server.post("j", b'"x"', JSON)
    assert json.loads(reader.event().data) == ["x"]
    assert "Stream-Sse-Data-Encoding" not in reader.headers
    reader.leave()


FORGERIES = [
    b"a\n\nevent: control\ndata: {}\n\n",
    b"a\r\revent: control\rdata: {}\r\r",
    b"\r\n\r\nid: forged\r\n",
    b"data: x\n\n:comment\n",
    b"\nretry: 1\n",
    b"  two spaces\n  again",
    b"\xef\xbb\xbfbyte order mark",
]


@pytest.mark.parametrize("text", FORGERIES)
def test_no_text_can_forge_an_event(server: Server, text: bytes) -> None:
    server.put("t", text, {**TEXT, **CLOSE})
    events = following(server, "t").events()
    assert [event.kind for event in events] == ["data", "control"]
    # An event stream knows one kind of line break; everything else has to survive.
    assert events[0].data == re.sub("\r\n|\r", "\n", text.decode())
    assert {event.id for event in events} == {server.tail("t")}


def test_characters_are_not_split_between_events(server: Server) -> None:
    letter = "\N{WATER WAVE}".encode()
    server.put("t", b"", TEXT)
    reader = following(server, "t")
    reader.caught_up()
    server.post("t", b"a" + letter[:1], TEXT)
    data, control = reader.event(), reader.event()
    assert data.data == "a"
    assert control.fields["upToDate"] is True
    for number in (1, 2):
        server.post("t", letter[number : number + 1], TEXT)
    server.post("t", letter[3:], {**TEXT, **CLOSE})
    events = reader.events()
    assert text_of(events) == "\N{WATER WAVE}"
    assert events[-1].fields["streamClosed"] is True


# -- ends --------------------------------------------------------------------------------------------------------


def test_a_close_without_data_is_a_last_control_and_the_end(server: Server) -> None:
    reader = following(server)
    reader.caught_up()
    server.post("s", headers=CLOSE)
    (last,) = reader.events()
    assert last.kind == "control"
    assert last.fields == {
        "streamNextOffset": server.tail("s"),
        "upToDate": True,
        "streamClosed": True,
    }


def test_a_closing_append_is_data_a_last_control_and_the_end(server: Server) -> None:
    reader = following(server)
    reader.caught_up()
    server.post("s", b"end", {**TEXT, **CLOSE})
    data, control = reader.events()
    assert (data.data, control.fields["streamClosed"]) == ("end", True)


def test_a_closed_stream_is_told_and_ended_at_once(server: Server) -> None:
    server.post("s", headers=CLOSE)
    for offset, kinds in (("-1", ["data", "control"]), (server.tail("s"), ["control"]), ("now", ["control"])):
        events = following(server, offset=offset).events()
        assert [event.kind for event in events] == kinds
        assert events[-1].fields["streamClosed"] is True
        assert "streamCursor" not in events[-1].fields


def test_the_end_of_a_closed_stream_is_not_told_before_its_last_byte(server: Server) -> None:
    server.put("b", b"x" * (2 * EVENT_BYTES_MAX), {**BYTES, **CLOSE})
    controls = [event.fields for event in following(server, "b").events() if event.kind == "control"]
    assert ["streamClosed" in fields for fields in controls] == [False, True]
    assert ["streamCursor" in fields for fields in controls] == [True, False]


@pytest.mark.parametrize("keeps", [False, True], ids=["removed", "kept for forks"])
def test_a_delete_ends_the_connection_without_a_word(server: Server, keeps: bool) -> None:
    if keeps:
        server.put("fork", headers={"Stream-Forked-From": "s"})
    reader = following(server)
    reader.caught_up()
    server.delete("s")
    assert reader.rest() == b""


def test_a_stream_that_took_the_name_is_not_followed(server: Server) -> None:
    reader = following(server)
    reader.caught_up()
    server.delete("s")
    server.put("s", b"another", TEXT)
    assert reader.rest() == b""


def test_the_stop_ends_connections_at_the_end_of_an_event(server: Server) -> None:
    reader = following(server)
    server.service.stop_live()
    events = reader.events()
    assert [event.kind for event in events] == ["data", "control"]
    late = following(server).events()
    assert text_of(late) == "old"


def test_the_stop_waits_for_no_reader_to_catch_up(server: Server) -> None:
    server.put("b", b"x" * (3 * EVENT_BYTES_MAX), TEXT)
    answer = Client(server.flask).get(BASE + "b?offset=-1&live=sse")
    pieces = iter(answer.response)
    assert next(pieces).endswith(b"\n\n")
    server.service.stop_live()
    assert RETRY.fullmatch(b"".join(pieces))
    answer.close()


def test_a_connection_ends_after_its_time_and_may_be_resumed(open_server: OpenServer) -> None:
    server = open_server(server={"sse_reconnect_interval_secs": 0.01})
    server.put("s", b"old", TEXT)
    events = following(server).events()
    assert text_of(events) == "old"
    assert "streamClosed" not in events[-1].fields
    server.post("s", b"new", TEXT)
    assert text_of(following(server, offset=events[-1].fields["streamNextOffset"]).events()) == "new"


def test_an_event_source_is_told_to_come_back_soon_and_not_with_all_others(open_server: OpenServer) -> None:
    server = open_server(server={"sse_reconnect_interval_secs": 0.01})
    server.put("s", b"old", TEXT)
    delays = set()
    for _ in range(20):
        found = RETRY.search(following(server).rest())
        assert found is not None
        delays.add(int(found[1]))
    assert all(0 < delay < 1000 for delay in delays)
    # Twenty times the same of 801 has a probability of 1e-55.
    assert len(delays) > 1
    server.post("s", headers=CLOSE)
    assert b"retry" not in following(server).rest()


def test_an_event_source_that_has_all_of_a_closed_stream_is_let_go(server: Server) -> None:
    server.put("b", b"\x00", BYTES)
    for name in ("s", "b"):
        resuming = {"Last-Event-ID": server.tail(name)}
        reader = server.reading(f"{name}?offset=-1&live=sse", resuming)
        assert reader.event().fields["upToDate"] is True
        reader.leave()
        server.post(name, headers=CLOSE)
        answer = server.get(f"{name}?offset=-1&live=sse", resuming)
        assert (answer.status_int, answer.body) == (204, b"")
        assert answer.headers["Stream-Closed"] == "true"
        assert answer.headers["Stream-Next-Offset"] == server.tail(name)
        assert answer.headers["Cache-Control"] == "no-store"
    # A client of the protocol names the offset in the query, and is told by an event.
    events = server.reading(f"s?offset={server.tail('s')}&live=sse").events()
    assert [event.fields.get("streamClosed") for event in events] == [True]


def test_the_time_of_connections_is_spread(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_reads, "monotonic", lambda: 0.0)

    def ends(interval_s: float) -> set[float]:
        times = live_reads.LiveTimes(30, interval_s, 15)
        reads = live_reads.LiveReads(server.store, server.service.hub, None, times)
        return {reads._connection_end() for _ in range(50)}

    assert ends(0) == {float("inf")}
    assert len(ends(60)) > 25
    assert all(54 <= end <= 66 for end in ends(60))


def test_a_silent_connection_shows_that_it_lives(open_server: OpenServer) -> None:
    server = open_server(server={"sse_heartbeat_secs": 0.01})
    server.put("s", b"old", TEXT)
    reader = following(server)
    reader.caught_up()
    for _ in range(3):
        assert reader.piece() == b":\n\n"
    reader.leave()


# -- not missed, not repeated ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda server: server.post("s", b"new", {**TEXT, **CLOSE}), "oldnew"),
        (lambda server: server.post("s", b"", CLOSE), "old"),
        # Its bytes have gone with it.
        (lambda server: server.delete("s"), ""),
        (lambda server: server.service.stop_live(), "old"),
    ],
    ids=["append", "close", "delete", "stop"],
)
def test_what_happens_between_the_look_and_the_wait_is_not_missed(
    server: Server, act: Callable[[Server], Any], text: str
) -> None:
    just_after_the_look(server, lambda: act(server))
    # Each of these ends the connection, so a miss would wait for ever.
    assert text_of(following(server).events()) == text


def test_readers_everywhere_get_every_byte_once(server: Server) -> None:
    offsets = ["-1", "now"]
    readers = [following(server, offset=offset) for offset in offsets * 5]
    for number in range(100):
        server.post("s", b"%d," % number, TEXT)
        if number % 7 == 0:
            gevent.sleep(0)
        if number % 20 == 0:
            readers.append(following(server, offset="-1"))
    server.post("s", headers=CLOSE)
    new = "".join(f"{number}," for number in range(100))
    texts = [text_of(reader.events()) for reader in readers]
    assert texts[1:10:2] == [new] * 5
    assert set(texts[:10:2] + texts[10:]) == {"old" + new}


def test_the_broadcaster_and_the_connection_take_turns(server: Server) -> None:
    """Where the server offers a live socket, live events are chunks on it, and the last ones come the usual way."""
    ours, theirs = socket.socketpair()
    reader = following(server, **{LIVE_SOCKET: ClientSocket(ours, 60)})
    reader.caught_up()
    gevent.sleep(0)
    assert server.service.fanout.readers == 1
    server.post("s", b"live", TEXT)
    received = b""
    with gevent.Timeout(180):
        while b"event: control" not in received or not received.endswith(b"\n\n\r\n"):
            received += theirs.recv(1 << 16)
    size, chunk = received.split(b"\r\n", 1)
    assert int(size, 16) == len(chunk) - 2
    assert b"data:live\n" in chunk
    server.post("s", headers=CLOSE)
    (last,) = reader.events()
    assert last.fields["streamClosed"] is True
    assert server.service.fanout.readers == 0
    ours.close()
    theirs.close()


def test_a_reader_of_a_quiet_stream_stays_with_the_broadcaster(open_server: OpenServer) -> None:
    server = open_server(server={"sse_reconnect_interval_secs": 0, "sse_heartbeat_secs": 0.01})
    server.put("s", b"old", TEXT)
    ours, theirs = socket.socketpair()
    reader = following(server, **{LIVE_SOCKET: ClientSocket(ours, 60)})
    reader.caught_up()
    # Longer than a cursor is good for.
    server.clock.now += 3600
    assert reader.piece() == b":\n\n"
    gevent.sleep(0)
    assert server.service.fanout.readers == 1
    reader.leave()
    ours.close()
    theirs.close()


def test_without_a_live_socket_a_reader_follows_by_itself(server: Server) -> None:
    ours, theirs = socket.socketpair()
    reader = following(server, **{"gunicorn.socket": ours})
    reader.caught_up()
    gevent.sleep(0)
    assert server.service.fanout.readers == 0
    server.post("s", b"live", TEXT)
    assert reader.event().data == "live"
    reader.leave()
    ours.close()
    theirs.close()


def test_a_client_that_hangs_up_is_not_kept(server: Server) -> None:
    ours, theirs = socket.socketpair()
    reader = following(server, **{"gunicorn.socket": ours})
    reader.caught_up()
    theirs.close()
    assert reader.rest() == b""
    hub = server.service.hub
    assert (hub.watchers, hub._events) == (0, {})
    ours.close()


def test_nothing_is_left_of_a_reader_whose_server_gave_it_up(server: Server) -> None:
    reader = following(server)
    reader.caught_up()
    reader.leave()
    assert server.service.hub.watchers == 0


# -- resuming ----------------------------------------------------------------------------------------------------


def test_the_last_event_id_resumes_whatever_the_url_says(server: Server) -> None:
    reader = following(server)
    last_id = reader.caught_up()[-1].id
    reader.leave()
    server.post("s", b"new", {**TEXT, **CLOSE})
    for offset in ("-1", "now", "nonsense"):
        resumed = server.reading(f"s?offset={offset}&live=sse", {"Last-Event-ID": last_id})
        assert text_of(resumed.events()) == "new"


def test_an_empty_last_event_id_is_none_and_a_wrong_one_is_refused(server: Server) -> None:
    server.post("s", headers=CLOSE)
    assert text_of(server.reading("s?offset=-1&live=sse", {"Last-Event-ID": ""}).events()) == "old"
    assert server.get("s?offset=-1&live=sse", {"Last-Event-ID": "forged"}).json["code"] == "INVALID_OFFSET"
    # Only an EventSource sends it, and only for events.
    assert server.get("s?offset=-1", {"Last-Event-ID": "forged"}).body == b"old"


def test_a_reader_of_a_fork_gets_what_it_inherits_and_then_its_own(server: Server) -> None:
    server.put("fork", headers={"Stream-Forked-From": "s"})
    reader = following(server, "fork")
    assert text_of(reader.caught_up()) == "old"
    server.post("s", b"not for forks", TEXT)
    server.post("fork", b"own", {**TEXT, **CLOSE})
    assert text_of(reader.events()) == "own"


def test_the_cursor_of_a_connection_begins_beyond_the_clients_and_never_goes_back(server: Server) -> None:
    reader = server.reading(f"s?offset=-1&live=sse&cursor={INTERVAL + 100}")
    cursors = [int(reader.caught_up()[-1].fields["streamCursor"])]
    for step in (-1000, 0, 100, 50_000):
        server.clock.now += step
        server.post("s", b".", TEXT)
        cursors.append(int(reader.caught_up()[-1].fields["streamCursor"]))
    assert cursors[0] > INTERVAL + 100
    assert cursors == sorted(cursors)
    assert cursors[-1] > cursors[0]
    reader.leave()
