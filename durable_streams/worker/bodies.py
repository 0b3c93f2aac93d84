"""Request bodies that have not arrived completely yet: read when the application asks, and never short.

A body that ends early, or stays silent for too long, is an error in the application's read. `100 Continue` is sent when
the application begins to read, so a body that it refuses by its length is never asked for.

How long a body may be silent is the timeout of its socket: SILENCE_S, unless the application sets another one.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import gevent

from durable_streams.eventloop.turns import TURN_BYTES, yield_to_loop

SILENCE_S: Final = 10.0
UNREAD_BYTES_MAX: Final = 64 * 1024
"""An unread rest up to this size is discarded to keep the connection; behind a larger one the connection is closed."""
BODY_BUFFER_BYTES: Final = 64 * 1024
UNPARSED_BYTES: Final = 4096
"""gunicorn's chunk parser is quadratic in its input: 4 KiB of 1-byte chunks take 2 ms."""
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientDisconnected(ConnectionError):
    """The client went away before its request, or the response to it, was complete."""


class BodyTimeout(TimeoutError):
    """The client was silent for too long in the middle of its body."""

    def __init__(self) -> None:
        super().__init__("the request body arrived too slowly")


class RequestBody(io.RawIOBase):
    """The body of a request on the fast path, of which ``begun`` has come with the head. Ends where its length says."""

    def __init__(
        self, sock: Any, begun: bytes, length: int, before_read: Callable[[], object] | None
    ) -> None:
        self._sock = sock
        self._begun = begun
        self._before_read = None if begun else before_read
        self._since_yield = 0
        self.unread = length
        sock.settimeout(SILENCE_S)

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

    def leave(self) -> None:
        """The body is not read any more: remove the timeout of the socket."""
        self._sock.settimeout(None)

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
        if self._since_yield >= TURN_BYTES:
            # A fast client always has more bytes ready, and would never make the loop wait.
            self._since_yield = 0
            yield_to_loop()
        try:
            size: int = self._sock.recv_into(view)
        except TimeoutError:
            raise BodyTimeout from None
        except OSError as exc:
            raise ClientDisconnected(str(exc)) from exc
        if not size:
            raise ClientDisconnected(f"the request body ended {self.unread} bytes early")
        self._since_yield += size
        return size


class PacedReader:
    """What gunicorn's body reader reads from until ``end()``: one piece at a time, yielding before each one."""

    def __init__(self, unreader: Any, sock: Any) -> None:
        self._unreader = unreader
        self._sock = sock
        self.ahead: bytes = unreader.take_buffered()
        """Received bytes that have not been given out."""
        unreader.chunk = self._chunk

    def end(self) -> None:
        """Restore the unreader's own method."""
        del self._unreader.chunk
        self._unreader.unread(self._unreader.take_buffered() + self.ahead)
        self.ahead = b""

    def _chunk(self, size_hint: int | None = None) -> bytes:
        """Replaces the unreader's method, which is told how much is wanted where the parser knows."""
        yield_to_loop()
        size = max(UNPARSED_BYTES, min(size_hint or 0, TURN_BYTES))
        if not self.ahead:
            data: bytes = self._sock.recv(size)
            return data
        piece, self.ahead = self.ahead[:size], self.ahead[size:]
        return piece


class TimedBody:
    """gunicorn's own body reader, in time, never short, and fair. For requests that its own parser has read."""

    def __init__(self, request: Any, sock: Any) -> None:
        self._body = request.body
        self._reader = PacedReader(request.unreader, sock)
        self._sock = sock
        sock.settimeout(SILENCE_S)
        # None: chunks, which tell their end themselves.
        self._left: int | None = getattr(request.body.reader, "length", None)
        # gunicorn would send `100 Continue` before the application can refuse the body.
        self._is_awaited, request._expected_100_continue = request._expected_100_continue, False

    @property
    def failed(self) -> bool:
        """gunicorn asks this to know whether another request may follow."""
        return bool(self._body.failed)

    @property
    def has_unread_rest(self) -> bool:
        """Whether so much is unread that the connection ends with this request."""
        if self._left is None:
            return self._body.reader.parser is not None
        return bool(self._left) and (self._is_awaited or self._left > UNREAD_BYTES_MAX)

    def leave(self) -> None:
        """The body is not read any more, except to discard the rest: remove the timeout of the socket."""
        self._reader.end()
        self._sock.settimeout(None)

    def read(self, size: int | None = -1) -> bytes:
        """Raises ClientDisconnected, BodyTimeout, and gunicorn's errors about chunks."""
        with self._guarded():
            data: bytes = self._body.read(size)
        return self._counted(data, len(data) == size)

    def readline(self, size: int | None = -1) -> bytes:
        """Raises what ``read`` raises."""
        with self._guarded():
            line: bytes = self._body.readline(size)
        return self._counted(line, line.endswith(b"\n") or len(line) == size)

    def readlines(self, hint: int | None = None) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        if self._is_awaited:
            self._is_awaited = False
            if not self._reader.ahead:
                self._sock.sendall(CONTINUE)
        try:
            yield
        except TimeoutError:
            raise BodyTimeout from None

    def _counted(self, data: bytes, is_full: bool) -> bytes:
        if self._left is None:
            return data
        self._left -= len(data)
        if self._left and not is_full:
            self._body.failed = True
            raise ClientDisconnected(f"the request body ended {self._left} bytes early")
        return data
