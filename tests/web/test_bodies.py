"""Request bodies: short, broken, slow or too large ones are refused whole, and chunked ones are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from gevent.socket import socketpair

from durable_streams.protocol.errors import BodyTimeout, InvalidBody, RequestBodyTooLarge
from durable_streams.web import bodies
from durable_streams.web.bodies import BODY_READ_BYTES_MAX, BodyReader

BYTES_MAX = 3 * BODY_READ_BYTES_MAX


class Source:
    """A ``wsgi.input`` that gives what it is told to, and an error or the end behind it."""

    def __init__(self, *pieces: bytes | Exception | float) -> None:
        """A number is a pause in seconds."""
        self.pieces = list(pieces)
        self.asked = 0

    def read(self, size: int) -> bytes:
        self.asked += 1
        while self.pieces:
            piece = self.pieces.pop(0)
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, float):
                gevent.sleep(piece)
                continue
            assert len(piece) > 0
            if len(piece) > size:
                self.pieces.insert(0, piece[size:])
            return piece[:size]
        return b""


def read(
    source: Any,
    length: str | None,
    timeout_s: float = 20.0,
    bytes_max: int = BYTES_MAX,
    **environ: Any,
) -> bytes:
    reader = BodyReader(bytes_max, timeout_s)
    more = {} if length is None else {"CONTENT_LENGTH": length}
    return reader.read({"wsgi.input": source, **more, **environ})


CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked"}


def test_no_length_and_no_coding_is_no_body() -> None:
    source = Source(b"next request")
    for length in (None, "", "0"):
        assert read(source, length) == b""
    assert source.asked == 0


def test_exactly_the_declared_bytes_are_read() -> None:
    source = Source(b"abc", b"defghi")
    assert read(source, "5") == b"abcde"
    assert source.pieces == [b"fghi"]


def test_large_bodies_arrive_in_pieces() -> None:
    body = bytes(range(256)) * (BYTES_MAX // 256)
    source = Source(body)
    assert read(source, str(len(body))) == body
    assert source.asked == -(-len(body) // BODY_READ_BYTES_MAX)


def test_a_chunked_body_ends_itself() -> None:
    assert read(Source(b"abc", b"def"), None, **CHUNKED) == b"abcdef"
    assert read(Source(), None, **CHUNKED) == b""


@pytest.mark.parametrize("length", ["-1", "+5", "5.0", "five", "0x5", "1_0", " 5", "5,5", "\u0665"])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    source = Source(b"abcde")
    with pytest.raises(InvalidBody):
        read(source, length)
    assert source.asked == 0


@pytest.mark.parametrize("pieces", [(), (b"abc",), (b"a", b"b", b"c")])
def test_a_body_that_ends_early_is_refused(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(InvalidBody, match=r"ended after \d of 5 bytes"):
        read(Source(*pieces), "5")


@pytest.mark.parametrize("error", [OSError("reset"), ValueError("no chunk size"), EOFError()])
@pytest.mark.parametrize("length", ["5", None])
def test_whatever_breaks_while_it_is_read_is_the_bodys_fault(error: Exception, length: str | None) -> None:
    with pytest.raises(InvalidBody):
        read(Source(b"abc", error), length, **CHUNKED)


def test_a_body_over_the_limit_is_refused_unread_when_its_length_says_so() -> None:
    source = Source(b"x" * (BYTES_MAX + 1))
    with pytest.raises(RequestBodyTooLarge):
        read(source, str(BYTES_MAX + 1))
    assert source.asked == 0
    for huge in ("9" * 19, "9" * 5000):
        with pytest.raises(RequestBodyTooLarge):
            read(source, huge)


def test_a_chunked_body_over_the_limit_is_refused_where_it_passes_it() -> None:
    assert len(read(Source(b"x" * BYTES_MAX), None, **CHUNKED)) == BYTES_MAX
    source = Source(b"x" * 10_000_000)
    with pytest.raises(RequestBodyTooLarge):
        read(source, None, **CHUNKED)
    assert [len(unread) for unread in source.pieces] == [10_000_000 - BYTES_MAX - 1]


@pytest.mark.parametrize("length", ["5", None])
def test_a_body_that_falls_silent_is_refused(length: str | None) -> None:
    # The pause is for ever, compared with the time allowed; only the limit on silence can end it.
    source = Source(b"abc", 3600.0)
    with gevent.Timeout(180), pytest.raises(BodyTimeout):
        read(source, length, 0.01, bytes_max=5, **CHUNKED)


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    ours, theirs = socketpair()
    with ours, theirs:
        yield ours, theirs


class Silences:
    """A socket that gives one byte a read, and counts the time that it was allowed to wait for each."""

    def __init__(self, body: bytes) -> None:
        self._left = body
        self._timeout: float | None = None
        self.allowed: list[float | None] = []

    def gettimeout(self) -> float | None:
        return self._timeout

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def read(self, size: int) -> bytes:
        read = b""
        while self._left and len(read) < size:
            self.allowed.append(self._timeout)
            read, self._left = read + self._left[:1], self._left[1:]
        return read


@pytest.mark.parametrize("length", ["600", None])
def test_a_body_may_take_any_time_while_its_bytes_keep_coming(length: str | None) -> None:
    """The limit is on each wait of the socket, not on all of them together, and it ends with the body."""
    source = Silences(b"x" * 600)
    more: dict[str, Any] = {"gunicorn.socket": source, **CHUNKED}
    assert read(source, length, 7.0, **more) == b"x" * 600
    assert source.allowed == [7.0] * 600
    assert source.gettimeout() is None


def test_a_silent_socket_is_refused(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    theirs.sendall(b"abc")
    with ours.makefile("rb") as source, gevent.Timeout(180), pytest.raises(BodyTimeout):
        read(source, "5", 0.01, **{"gunicorn.socket": ours})


def test_a_declared_length_must_come_at_a_hundred_bytes_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[float] = []

    @contextmanager
    def noted(seconds: float, error: object) -> Iterator[None]:
        allowed.append(seconds)
        yield

    monkeypatch.setattr(bodies, "deadline", noted)
    source = Silences(b"x" * 5000)
    more: dict[str, Any] = {"gunicorn.socket": source}
    read(source, "5000", 7.0, **more)
    read(Silences(b"x" * 5000), None, 7.0, **more, **CHUNKED)
    assert allowed == [80.0]


def test_a_servers_own_time_out_is_the_same_refusal() -> None:
    with pytest.raises(BodyTimeout):
        read(Source(b"abc", TimeoutError()), "5")


def test_an_outer_deadline_is_not_taken_for_ours() -> None:
    outer = gevent.Timeout(0.01)
    with pytest.raises(gevent.Timeout) as raised, outer:
        read(Source(3600.0), "5")
    assert raised.value is outer
