"""Text over event streams (section 5.8): what a reader assembles live is what one assembles who comes later."""

from __future__ import annotations

import json
from base64 import b64decode
from itertools import pairwise

import gevent
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from durable_streams.protocol import sse
from durable_streams.storage.memory import InMemoryStorage
from tests.web.conftest import OpenServer
from tests.web.driving import CLOSE, JSON, PATIENCE_S, TEXT, Reader, Server

CONNECTIONS_MAX = 60
SETTINGS = {"sse_reconnect_interval_secs": 0, "long_poll_timeout_secs": 0.01}


class Assembling:
    """A client as the official ones are: it appends what comes, and comes back from where it was until the end."""

    def __init__(self, server: Server, name: str = "s") -> None:
        self.content = b""
        """Text as UTF-8, base64 decoded."""
        self.offset = "-1"
        self.is_up_to_date = self.is_closed = False
        self._server = server
        self._name = name
        self._left = CONNECTIONS_MAX
        self._connect()

    def _connect(self) -> None:
        self._left -= 1
        assert self._left, "it never comes to an end"
        self._reader = self._server.reading(f"{self._name}?offset={self.offset}&live=sse")

    def take(self) -> None:
        """All that has come by now."""
        while True:
            # A greenlet that waits for nothing but its turn gets it.
            for _ in range(3):
                gevent.sleep(0)
            ended = not self._reader.is_waiting
            self._take_pieces(self._reader)
            if not ended or self.is_closed:
                return
            self._connect()

    def until_closed(self) -> bytes:
        while not self.is_closed:
            with gevent.Timeout(PATIENCE_S):
                self._reader.greenlet.join()
            self.take()
        return self.content

    def leave(self) -> None:
        self._reader.leave()

    def _take_pieces(self, reader: Reader) -> None:
        is_base64 = reader.headers.get("Stream-Sse-Data-Encoding") == "base64"
        for event in reader.come():
            if event.kind == "data":
                self.content += b64decode(event.data) if is_base64 else event.data.encode()
            else:
                self.offset = event.fields["streamNextOffset"]
                self.is_up_to_date = event.fields.get("upToDate", False)
                self.is_closed = event.fields.get("streamClosed", False)


def with_one_line_break(content: bytes) -> bytes:
    """Event streams know one kind."""
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def is_all_but_half_a_character(live: bytes, later: bytes) -> bool:
    """Who comes new where only half a character lies gets it in base64."""
    live, later = with_one_line_break(live), with_one_line_break(later)
    return later.startswith(live) and len(later) - len(live) < 4


CHARACTERS = ["a", " ", "\r", "\n", "\r\n", "\N{EURO SIGN}", "\N{GRINNING FACE}", "\u00e9", "data:", "\0"]
BYTES = [character.encode() for character in CHARACTERS] + [b"\xff", b"\x80", b"\xe2\x82", b"\xed\xa0\x80"]
TEXTS = st.lists(st.sampled_from(CHARACTERS), max_size=12).map(lambda parts: "".join(parts).encode())
CONTENTS = st.lists(st.sampled_from(BYTES), max_size=12).map(b"".join)


def cut(content: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(content) + 1) for place in places} | {0, len(content)})
    return [content[start:end] for start, end in pairwise(ends)]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS | CONTENTS, st.lists(st.integers(0, 40), max_size=8), st.sampled_from(["", "; charset=latin-1"]))
@example(b"a\r\nb", [2], "")
@example(b"a\r\n", [2], "")
@example(b"\xe2\x82\xac", [1, 2], "")
@example(b"a\xe2\x82", [2], "")
@example(b"a\r\xff\n\r\n", [2, 3], "")
def test_what_is_assembled_live_is_what_is_assembled_later(
    open_server: OpenServer, content: bytes, places: list[int], charset: str
) -> None:
    server = open_server(server=SETTINGS)
    content_type = {"Content-Type": f"text/plain{charset}"}
    server.put("s", b"", content_type)
    live = Assembling(server)
    live.take()
    for piece in cut(content, places):
        server.post("s", piece, content_type)
        live.take()
        later = Assembling(server)
        later.take()
        # Nothing but the beginning of a character is waited for, and both know that this is all there is.
        assert later.is_up_to_date
        assert live.is_up_to_date
        assert is_all_but_half_a_character(live.content, later.content)
        later.leave()
    server.post("s", headers=CLOSE)
    expected = with_one_line_break(content)
    assert with_one_line_break(live.until_closed()) == expected
    assert with_one_line_break(Assembling(server).until_closed()) == expected
    server.close()


def test_half_a_character_is_waited_for_by_text_and_not_by_who_comes_new(server: Server) -> None:
    server.put("s", b"caf\xc3", TEXT)
    first = server.reading("s?offset=-1&live=sse")
    data, control = first.caught_up()
    assert (data.data, control.fields["upToDate"]) == ("caf", True)
    second = server.reading(f"s?offset={control.id}&live=sse")
    assert second.headers["Stream-Sse-Data-Encoding"] == "base64"
    assert b64decode(second.caught_up()[0].data) == b"\xc3"
    # An EventSource cannot decode, and half a character is nothing that it could show.
    third = server.reading(f"s?offset={control.id}&live=sse", {"Last-Event-ID": control.id})
    assert "Stream-Sse-Data-Encoding" not in third.headers
    assert [event.kind for event in third.caught_up()] == ["control"]
    server.post("s", b"\xa9", TEXT)
    assert (first.event().data, third.event().data) == ("\u00e9", "\u00e9")
    assert b64decode(second.event().data) == b"\xa9"
    for reader in (first, second, third):
        reader.leave()


def test_events_of_text_end_before_what_is_no_text(server: Server) -> None:
    server.put("s", b"before\xffafter", {**TEXT, **CLOSE})
    *_, control = server.reading("s?offset=-1&live=sse").events()
    assert "upToDate" not in control.fields
    rest = server.reading(f"s?offset={control.id}&live=sse")
    events = rest.events()
    assert rest.headers["Stream-Sse-Data-Encoding"] == "base64"
    assert b64decode(events[0].data) == b"\xffafter"
    assert events[-1].fields["streamClosed"] is True


@pytest.mark.parametrize("content_type", [TEXT, JSON], ids=["text", "json"])
def test_a_long_event_is_read_and_encoded_once_for_those_who_catch_up_together(
    open_server: OpenServer, content_type: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = sse.data_event

    def counting(config: object, data: bytes, *rest: object, **options: object) -> bytes:
        encoded.append(len(data))
        return encode(config, data, *rest, **options)  # type: ignore[arg-type]

    class Counting(InMemoryStorage):
        bytes_read = 0

        def read(self, state: object, start: int, stop: int) -> bytes:
            Counting.bytes_read += stop - start
            return super().read(state, start, stop)  # type: ignore[arg-type]

    monkeypatch.setattr(sse, "data_event", counting)
    server = open_server(Counting(), server=SETTINGS)
    body = b"x" * 1_000_000
    server.put("s", b'"%b"' % body if content_type is JSON else body, content_type)
    readers = [server.reading("s?offset=-1&live=sse") for _ in range(20)]
    texts = {
        "".join(event.data for event in reader.caught_up() if event.kind == "data") for reader in readers
    }
    assert texts == {json.dumps([body.decode()]) if content_type is JSON else body.decode()}
    assert sum(encoded) <= 1_000_003
    assert Counting.bytes_read < 3_000_000
    for reader in readers:
        reader.leave()
