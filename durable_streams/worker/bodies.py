"""Request bodies that are not wholly here yet: read when the application asks, in time, and never short.

A body that ends early or comes too slowly is an error in the application's read. `100 Continue` is sent when the
application begins to read, so a body that it refuses by its length is never asked for.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final

import gevent

from durable_streams.worker.turns import TURN_BYTES, yield_to_loop

SLOWEST_BYTES_PER_S: Final = 100_000
"""Beyond the first seconds a body must arrive at this rate."""
UNREAD_BYTES_MAX: Final = 64 * 1024
"""An unread rest up to this is thrown away to keep the connection; behind more of it the connection is closed."""
PIECE_BYTES: Final = 64 * 1024
UNPARSED_BYTES: Final = 4096
"""In the tiniest chunks so many cost gunicorn's parser 2 ms; more at once would cost more than as many times that."""
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientDisconnected(ConnectionError):
    """The client went away before its request, or the answer to it, was complete."""


class BodyTimeout(TimeoutError):
    """The body arrived too slowly."""


class BodyClock:
    """How long a body may take: some seconds, and one more for every 100 KB."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._began: float | None = None

    def left(self, bytes_due: int) -> float:
        """Seconds until ``bytes_due`` bytes must be here; the time begins with the first question."""
        now = monotonic()
        if self._began is None:
            self._began = now
        return self._began + self._timeout_s + bytes_due / SLOWEST_BYTES_PER_S - now


class RequestBody(io.RawIOBase):
    """The body of a plain request, of which ``begun`` has come with the head. Ends where its length says."""

    def __init__(
        self, sock: Any, begun: bytes, length: int, timeout_s: float, before_read: Callable[[], object] | None
    ) -> None:
        self._sock = sock
        self._begun = begun
        self._length = length
        self._clock = BodyClock(timeout_s)
        self._before_read = None if begun else before_read
        self._since_turn = 0
        self.unread = length

    def readable(self) -> bool:
        return True

    @property
    def has_unread_rest(self) -> bool:
        """Whether so much is unread, or not even asked for, that the connection ends with this request."""
        return bool(self.unread) and (self._before_read is not None or self.unread > UNREAD_BYTES_MAX)

    def readinto(self, buffer: Any) -> int:
        """Raises ClientDisconnected and BodyTimeout."""
        view = memoryview(buffer).cast("B")[: self.unread]
        if not view:
            return 0
        size = self._take_begun(view) or self._receive(view)
        self.unread -= size
        return size

    def throw_away(self, seconds: float) -> bool:
        """Read the rest if it is small and comes within ``seconds``; False: what follows is no next request."""
        if self.has_unread_rest:
            return False
        scratch = bytearray(min(self.unread, UNREAD_BYTES_MAX))
        try:
            with gevent.Timeout(seconds, BodyTimeout):
                while self.unread:
                    self.readinto(scratch)
        except OSError:
            return False
        return True

    def _take_begun(self, view: memoryview) -> int:
        begun = self._begun[: len(view)]
        if begun:
            view[: len(begun)] = begun
            self._begun = self._begun[len(begun) :]
        return len(begun)

    def _receive(self, view: memoryview) -> int:
        if self._before_read is not None:
            before_read, self._before_read = self._before_read, None
            before_read()
        self._sock.settimeout(max(0.001, self._clock.left(self._length)))
        try:
            if self._since_turn >= TURN_BYTES:
                # A fast client always has more bytes ready, and would never let go.
                self._since_turn = 0
                self._sock._wait(self._sock._read_event)
            size: int = self._sock.recv_into(view)
        except TimeoutError:
            raise BodyTimeout("the request body arrived too slowly") from None
        except OSError as exc:
            raise ClientDisconnected(str(exc)) from exc
        finally:
            self._sock.settimeout(None)
        if not size:
            raise ClientDisconnected(f"the request body ended {self.unread} bytes early")
        self._since_turn += size
        return size


class PacedReader:
    """What gunicorn's body reader gets to read until ``end()``: a piece at a time, and before each one a turn."""

    def __init__(self, unreader: Any, sock: Any) -> None:
        self._unreader = unreader
        self._sock = sock
        self.ahead: bytes = unreader.take_buffered()
        """Of what has come already, what has not been given out."""
        unreader.chunk = self._chunk

    def end(self) -> None:
        """The unreader goes on by itself, from where it is."""
        del self._unreader.chunk
        self._unreader.unread(self._unreader.take_buffered() + self.ahead)
        self.ahead = b""

    def _chunk(self, size_hint: int | None = None) -> bytes:
        """In the place of the unreader's method, which is told how much is wanted where the parser knows."""
        yield_to_loop(self._sock)
        size = max(UNPARSED_BYTES, min(size_hint or 0, TURN_BYTES))
        if not self.ahead:
            data: bytes = self._sock.recv(size)
            return data
        piece, self.ahead = self.ahead[:size], self.ahead[size:]
        return piece


class TimedBody:
    """gunicorn's own body reader, in time, never short, and fair. For requests that its own parser has read."""

    def __init__(self, request: Any, sock: Any, timeout_s: float) -> None:
        self._body = request.body
        self._inflow = PacedReader(request.unreader, sock)
        self._sock = sock
        self._clock = BodyClock(timeout_s)
        self._received = 0
        # None: chunks, which tell their end themselves.
        self._left: int | None = getattr(request.body.reader, "length", None)
        # gunicorn would send it before the application is asked whether it wants the body.
        self._is_awaited, request._expected_100_continue = request._expected_100_continue, False

    @property
    def failed(self) -> bool:
        """What gunicorn asks to know whether a next request may follow."""
        return bool(self._body.failed)

    @property
    def has_unread_rest(self) -> bool:
        """Whether so much is unread that the connection ends with this request."""
        if self._left is None:
            return self._body.reader.parser is not None
        return bool(self._left) and (self._is_awaited or self._left > UNREAD_BYTES_MAX)

    def leave(self) -> None:
        """Nobody reads it any more, except to throw away the rest."""
        self._inflow.end()

    def read(self, size: int | None = -1) -> bytes:
        """Raises ClientDisconnected, BodyTimeout, and gunicorn's errors about chunks."""
        with self._guarded(self._body.getsize(size)):
            data: bytes = self._body.read(size)
        return self._counted(data, len(data) == size)

    def readline(self, size: int | None = -1) -> bytes:
        with self._guarded(PIECE_BYTES):
            line: bytes = self._body.readline(size)
        return self._counted(line, line.endswith(b"\n") or len(line) == size)

    def readlines(self, hint: int | None = None) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    @contextmanager
    def _guarded(self, size: int) -> Iterator[None]:
        if self._is_awaited:
            self._is_awaited = False
            if not self._inflow.ahead:
                self._sock.sendall(CONTINUE)
        due = self._received + (min(size, TURN_BYTES) if self._left is None else self._left)
        late = BodyTimeout("the request body arrived too slowly")
        with gevent.Timeout(max(0.001, self._clock.left(due)), late):
            yield

    def _counted(self, data: bytes, is_full: bool) -> bytes:
        self._received += len(data)
        if self._left is None:
            return data
        self._left -= len(data)
        if self._left and not is_full:
            self._body.failed = True
            raise ClientDisconnected(f"the request body ended {self._left} bytes early")
        return data
