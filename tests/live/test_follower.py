"""One reader's place: what it is told, once, in order, and when there is nothing more to say."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator

import pytest

from durable_streams.live.events import NotText
from durable_streams.live.follower import Follower
from durable_streams.protocol.errors import InvalidOffset, StreamNotFound
from durable_streams.protocol.requests import Append, Create
from durable_streams.protocol.state import NO_EXPIRY
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore
from tests.event_streams import Event, EventStream

NOW = 1_800_000_000.0
INTERVAL = (1_800_000_000 - 1_728_432_000) // 20


class Stream:
    """A store with one stream, and its readers."""

    def __init__(self, content_type: str = "text/plain", body: bytes = b"") -> None:
        self.now = NOW
        self.store = StreamStore(InMemoryStorage(), Limits(), clock=lambda: self.now)
        self.store.open()
        self.content_type = content_type
        self.store.create(Create("s", content_type, NO_EXPIRY, False, body))

    def append(self, body: bytes = b"", *, close: bool = False) -> None:
        self.store.append(Append("s", self.content_type, body, close))

    def follower(self, position: int = 0, cursor: str | None = None, bytes_max: int = 1000) -> Follower:
        return Follower(self.store, self.store.find("s"), position, cursor, bytes_max)

    def offset(self, position: int) -> str:
        return self.store.offset_at(self.store.find("s"), position)

    def news(self, follower: Follower) -> list[Event]:
        """What the follower says now that it has looked again."""
        follower.state = self.store.find("s")
        return list(self._said(follower))

    def _said(self, follower: Follower) -> Iterator[Event]:
        stream = EventStream()
        while said := follower.next_event():
            events = stream.feed(b"".join(said))
            assert events[-1].kind == "control"
            assert len(events) <= 2
            yield from events


def test_an_empty_stream_is_greeted_once_and_then_silence() -> None:
    stream = Stream()
    follower = stream.follower()
    (greeting,) = stream.news(follower)
    assert greeting.fields == {
        "streamNextOffset": stream.offset(0),
        "streamCursor": str(INTERVAL),
        "upToDate": True,
    }
    assert stream.news(follower) == []


def test_a_reader_with_data_needs_no_greeting() -> None:
    stream = Stream(body=b"abc")
    follower = stream.follower()
    assert [event.kind for event in stream.news(follower)] == ["data", "control"]
    assert stream.news(follower) == []
    assert follower.position == 3


def test_data_is_said_in_events_of_bounded_size() -> None:
    stream = Stream(body=b"0123456789")
    events = stream.news(stream.follower(bytes_max=4))
    assert [event.data for event in events if event.kind == "data"] == ["0123", "4567", "89"]
    offsets = [event.fields["streamNextOffset"] for event in events if event.kind == "control"]
    assert offsets == [stream.offset(position) for position in (4, 8, 10)]
    assert ["upToDate" in event.fields for event in events if event.kind == "control"] == [False, False, True]


def test_the_end_is_said_once_with_the_last_byte() -> None:
    stream = Stream(body=b"abcdefgh")
    follower = stream.follower(bytes_max=4)
    assert len(stream.news(follower)) == 4
    stream.append(b"wxyz+", close=True)
    events = stream.news(follower)
    controls = [event.fields for event in events if event.kind == "control"]
    assert ["streamClosed" in fields for fields in controls] == [False, True]
    assert follower.ended
    assert stream.news(follower) == []


@pytest.mark.parametrize("heard", [False, True])
def test_a_close_without_data_is_one_control(heard: bool) -> None:
    stream = Stream(body=b"abc")
    follower = stream.follower(position=3)
    if heard:
        assert len(stream.news(follower)) == 1
    stream.append(close=True)
    (last,) = stream.news(follower)
    assert last.fields == {"streamNextOffset": stream.offset(3), "upToDate": True, "streamClosed": True}
    assert stream.news(follower) == []


def test_half_a_character_is_held_back_until_it_is_whole() -> None:
    stream = Stream(body="a\N{EURO SIGN}".encode()[:3])
    follower = stream.follower()
    data, control = stream.news(follower)
    assert (data.data, control.fields["streamNextOffset"]) == ("a", stream.offset(1))
    # All that is text by now.
    assert control.fields["upToDate"] is True
    assert stream.news(follower) == []
    stream.append("\N{EURO SIGN}".encode()[2:])
    data, control = stream.news(follower)
    assert (data.data, control.fields["upToDate"]) == ("\N{EURO SIGN}", True)
    stream.append(b"\xe2\x82")
    assert stream.news(follower) == []
    stream.append(close=True)
    with pytest.raises(NotText):
        stream.news(follower)
    assert follower.position == 4


@pytest.mark.parametrize("bytes_max", [1, 2, 3, 4, 5])
def test_a_small_event_never_stops_a_reader_in_the_middle_of_a_character(bytes_max: int) -> None:
    text = "\N{WATER WAVE}a\N{EURO SIGN}" * 5
    stream = Stream(body=text.encode())
    stream.append(close=True)
    follower = stream.follower(bytes_max=bytes_max)
    stream.news(follower)
    assert follower.ended
    assert follower.position == len(text.encode())


def test_characters_are_whole_where_an_event_has_room_for_one() -> None:
    text = "\N{WATER WAVE}a\N{EURO SIGN}" * 50
    stream = Stream(body=text.encode())
    for bytes_max in range(4, 12):
        events = stream.news(stream.follower(bytes_max=bytes_max))
        assert "".join(event.data for event in events if event.kind == "data") == text


@pytest.mark.parametrize("bytes_max", [2, 3, 4, 5])
def test_a_line_break_of_two_characters_stays_one_wherever_events_end(bytes_max: int) -> None:
    stream = Stream(body=b"a\r\nb\rc\n\r\n\r\r")
    events = stream.news(stream.follower(bytes_max=bytes_max))
    assert "".join(event.data for event in events if event.kind == "data") == "a\nb\nc\n\n\n\n"
    assert events[-1].fields["upToDate"]


def test_bytes_of_other_types_are_not_looked_at() -> None:
    stream = Stream("image/png", b"\xe2\x82")
    data, control = stream.news(stream.follower())
    assert (b64decode(data.data), control.fields["upToDate"]) == (b"\xe2\x82", True)


def test_json_events_hold_whole_messages() -> None:
    stream = Stream("application/json", b'[1,"a message longer than an event",3]')
    events = stream.news(stream.follower(bytes_max=5))
    assert [event.data for event in events if event.kind == "data"] == [
        "[1]",
        '["a message longer than an event"]',
        "[3]",
    ]


def test_a_position_that_is_none_raises() -> None:
    stream = Stream("application/json", b'["abc"]')
    with pytest.raises(InvalidOffset):
        stream.news(stream.follower(position=2))


def test_a_stream_that_has_gone_raises() -> None:
    stream = Stream(body=b"abc")
    follower = stream.follower()
    stream.store.remove("s")
    with pytest.raises(StreamNotFound):
        follower.next_event()


def test_the_cursor_follows_the_clock_and_never_goes_back() -> None:
    stream = Stream()
    follower = stream.follower()
    cursors = []
    for step in (0, 25, -500, 60):
        stream.now += step
        stream.append(b"x")
        cursors.append(int(stream.news(follower)[-1].fields["streamCursor"]) - INTERVAL)
    assert cursors == [0, 1, 1, 1]
    stream.now += 10_000
    stream.append(b"x")
    assert int(stream.news(follower)[-1].fields["streamCursor"]) > INTERVAL + 400


def test_a_client_that_is_ahead_stays_ahead_until_time_has_caught_up() -> None:
    stream = Stream(body=b"x")
    follower = stream.follower(cursor=str(INTERVAL + 5))
    assert follower.is_ahead
    cursor = int(stream.news(follower)[-1].fields["streamCursor"])
    assert cursor > INTERVAL + 5
    stream.now += 20 * 1000
    stream.append(b"y")
    assert int(stream.news(follower)[-1].fields["streamCursor"]) == INTERVAL + 1000
    assert not follower.is_ahead


def test_a_reader_of_a_quiet_stream_is_not_ahead_however_long_it_was_quiet() -> None:
    stream = Stream(body=b"x")
    follower = stream.follower()
    stream.news(follower)
    for _ in range(3):
        stream.now += 3600
        assert not follower.is_ahead
        assert stream.news(follower) == []
