"""Events as bytes: what a reader by the book makes of them is what was sent, and no data can pass for an event."""

from __future__ import annotations

import codecs
import json
from base64 import b64decode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable_streams.protocol.messages.splitting import to_messages
from durable_streams.protocol.sse import control_event, data_event, is_base64, text_end
from tests.event_streams import EventStream
from tests.protocol.states import stream

OFFSET = "1764289999123456_0000000000000770"
NASTY = st.text(st.sampled_from("\r\n :adeivnt\N{BOM}\u2028\u0085\N{EURO SIGN}\0"), max_size=30)


def data_of(content_type: str, data: bytes) -> str:
    """What a reader gets of one data event; asserts that it is one event, and its id is the offset after it."""
    (event,) = EventStream().feed(
        data_event(stream(content_type=content_type).config, data, OFFSET, as_base64=is_base64(content_type))
    )
    assert event.kind == "data"
    assert event.id == OFFSET
    return event.data


def as_events_carry(text: str) -> str:
    """Event streams know one kind of line break."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(st.one_of(st.text(), NASTY))
@example("\n\nevent: control\ndata:{}\n\n")
@example("\r\revent: control\rdata:{}\r\r")
@example("\r\n\r\nevent: control\r\n")
@example("data: x")
@example(" leading")
@example("\n leading")
@example("id: 5\nretry: 1\n:comment\n")
@example("\n")
@example("\r")
@example(" ")
@example("")
def test_no_text_can_end_its_event_or_forge_another(text: str) -> None:
    assert data_of("text/plain", text.encode()) == as_events_carry(text)


@given(st.binary())
@example(b"\n\nevent: control\n\n")
def test_binary_data_travels_as_base64_on_one_line(data: bytes) -> None:
    for content_type in ("application/octet-stream", "application/x-protobuf", "image/png"):
        text = data_of(content_type, data)
        assert "\n" not in text
        assert len(text) % 4 == 0
        assert b64decode(text, validate=True) == data


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(JSON_VALUES, min_size=1, max_size=5), st.booleans())
def test_json_messages_travel_as_one_array(values: list[object], ascii_only: bool) -> None:
    stored = to_messages(
        json.dumps(values, ensure_ascii=ascii_only, indent=1).encode("utf-8", "surrogatepass")
    )
    assert json.loads(data_of("application/json", stored)) == values


@pytest.mark.parametrize(
    ("content_type", "encoded"),
    [
        ("text/plain", False),
        ("TEXT/HTML; charset=utf-8", False),
        ('text/plain; format=flowed; Charset="UTF-8"', False),
        ("text/plain;charset=us-ascii", False),
        ("text/plain; charset=iso-8859-1", True),
        ("text/csv; header=present; charset=utf-16", True),
        ("application/json", False),
        ("Application/JSON; charset=utf-8", False),
        ("application/octet-stream", True),
        ("application/ndjson", True),
        ("application/json-seq", True),
        ("textual/plain", True),
        ("application/xml", True),
    ],
)
def test_only_text_in_utf_8_and_json_travel_as_they_are(content_type: str, encoded: bool) -> None:
    assert is_base64(content_type) is encoded


@pytest.mark.parametrize(
    ("cursor", "up_to_date", "closed", "fields"),
    [
        ("12", False, False, {"streamCursor": "12"}),
        ("12", True, False, {"streamCursor": "12", "upToDate": True}),
        (None, True, True, {"upToDate": True, "streamClosed": True}),
        ("12", True, True, {"upToDate": True, "streamClosed": True}),
    ],
)
def test_a_control_event_says_where_the_reader_is_and_nothing_that_is_not_so(
    cursor: str | None, up_to_date: bool, closed: bool, fields: dict[str, object]
) -> None:
    (event,) = EventStream().feed(control_event(OFFSET, cursor, up_to_date, closed))
    assert event.kind == "control"
    assert event.id == OFFSET
    assert json.loads(event.data) == {"streamNextOffset": OFFSET, **fields}


# -- whole characters -----------------------------------------------------------------------------------------------


@given(st.text(), st.integers(0, 4))
def test_a_text_cut_anywhere_is_held_back_to_a_whole_character(text: str, cut: int) -> None:
    data = text.encode()[: -cut or None]
    end, is_waiting = text_end(data, is_complete=False)
    data[:end].decode()
    assert is_waiting is (end < len(data))
    assert len(data) - end < 4
    rest = codecs.getincrementaldecoder("utf-8")()
    rest.decode(data)
    assert rest.getstate()[0] == data[end:]
    assert text_end(data, is_complete=True) == (end, False)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xff", 0),
        (b"abc\xfe", 3),
        (b"\xf8", 0),
        (b"\xc0", 0),
        (b"\x80", 0),
        (b"a\x80\x80", 1),
        (b"\xe0\x80", 0),
        (b"\xf4\x90", 0),
        (b"\xed\xa0\x80", 0),
        (b"\xe2\x82x", 0),
        (b"\xc3\xa9\xff\xc3\xa9", 2),
        (b"", 0),
    ],
)
def test_what_can_never_become_a_character_is_not_waited_for(data: bytes, text: int) -> None:
    assert text_end(data, is_complete=False) == (text, False)


@given(st.binary(max_size=12), st.booleans())
def test_what_is_taken_is_text_and_what_is_waited_for_may_become_it(data: bytes, is_complete: bool) -> None:
    end, is_waiting = text_end(data, is_complete=is_complete)
    data[:end].decode()
    assert not (is_complete and is_waiting)
    if is_waiting:
        decoder = codecs.getincrementaldecoder("utf-8")()
        assert decoder.decode(data[end:]) == ""
