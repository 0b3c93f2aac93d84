"""The request body: whole, in time and within its limit, or an error; a truncated one is never taken for whole.

The time limit is on silence. A body may take any time while its bytes keep coming, so that text which is written while
it is sent, such as the words of a model, is one append.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any, Final

from gevent.lock import BoundedSemaphore

from durable_streams.eventloop.deadline import deadline, silence_limit
from durable_streams.eventloop.live_socket import SERVER_SOCKET
from durable_streams.protocol.errors import (
    BodyTimeout,
    InvalidBody,
    ProtocolError,
    RequestBodyTooLarge,
    Unavailable,
)
from durable_streams.web.codings.decoding import decode_body
from durable_streams.web.response import Environ

BODY_READ_BYTES_MAX: Final = 1024 * 1024
HELD_BYTES: Final = "durable_streams.held_bytes"
"""In the environ of a request: what InFlight counts for it."""
_LENGTH_DIGITS_MAX: Final = 18
LENGTHS_REMEMBERED: Final = 4096
"""Values of Content-Length that are checked once and then known; a refused one is not remembered."""
FIRST_S: Final = 30.0
SLOWEST_BYTES_PER_S: Final = 100
"""Beyond the first seconds a body that has declared its length must arrive at this rate."""


class InFlight:
    """Bytes of all bodies that are being received or written, against ``bytes_max``; 0 means no limit.

    Bodies that came with their head are not counted: there are no more of them than connections.
    """

    def __init__(self, bytes_max: int, check_room: Callable[[int], None] | None = None) -> None:
        """``check_room`` raises what refuses so many bytes, which are to be written, before they are read."""
        self.total = 0
        self._bytes_max = bytes_max
        self._check_room = check_room

    def take(self, environ: Environ, size: int) -> None:
        """Count ``size`` more bytes of one request; raises Unavailable when they are too many."""
        if self._bytes_max and self.total + size > self._bytes_max:
            raise Unavailable("limits.max_inflight_body_bytes is reached")
        if self._check_room is not None:
            self._check_room(self.total + size)
        self.total += size
        environ[HELD_BYTES] = environ.get(HELD_BYTES, 0) + size

    def release(self, environ: Environ) -> None:
        self.total -= environ.pop(HELD_BYTES, 0)


class BodyReader:
    """Reads bodies of at most ``bytes_max`` bytes, none of which may be silent for ``silence_s`` seconds."""

    def __init__(
        self, bytes_max: int, silence_s: float, in_flight: InFlight | None = None, decoded_at_once: int = 2
    ) -> None:
        """``in_flight``: what counts bodies that come in parts; whoever reads one has to ``release`` it."""
        self._bytes_max = bytes_max
        self._silence_s = silence_s
        self._in_flight = in_flight or InFlight(0)
        self._decoding = BoundedSemaphore(decoded_at_once)
        self._declared_length = lru_cache(LENGTHS_REMEMBERED)(self._parse_length)

    def release(self, environ: Environ) -> None:
        """The body that was read for ``environ`` is no longer held."""
        if HELD_BYTES in environ:
            self._in_flight.release(environ)

    def read(self, environ: Environ) -> bytes:
        """The complete body, its content coding undone.

        Raises InvalidBody, BodyTimeout, UnsupportedCoding, RequestBodyTooLarge or Unavailable (then often unread).
        """
        body = self._read(environ)
        if "HTTP_CONTENT_ENCODING" not in environ:
            return body
        with self._decoding:
            decoded = decode_body(body, environ["HTTP_CONTENT_ENCODING"], self._bytes_max)
        self._in_flight.take(environ, len(decoded))
        return decoded

    def _read(self, environ: Environ) -> bytes:
        text = environ.get("CONTENT_LENGTH")
        if text:
            length = self._declared_length(text)
        elif environ.get("HTTP_TRANSFER_ENCODING"):
            # Chunks, which mark their own end.
            length = None
        else:
            return b""
        source = environ["wsgi.input"]
        if length is not None and type(source) is BytesIO:
            return _checked(source.read(length), length)
        sock = environ.get(SERVER_SOCKET)
        if length is None:
            return self._read_pieces(environ, source, sock, None)
        self._in_flight.take(environ, length)
        with deadline(FIRST_S + length / SLOWEST_BYTES_PER_S, _too_slow):
            return _checked(self._read_pieces(environ, source, sock, length), length)

    def _parse_length(self, text: str) -> int:
        if not (text.isascii() and text.isdigit()):
            raise InvalidBody(f"Content-Length {text!r} is not a number of bytes")
        # Checked as text: int() refuses thousands of digits.
        if len(text) > _LENGTH_DIGITS_MAX or int(text) > self._bytes_max:
            raise RequestBodyTooLarge(self._bytes_max)
        return int(text)

    def _read_pieces(self, environ: Environ, source: Any, sock: Any, length: int | None) -> bytes:
        pieces: list[bytes] = []
        size = 0
        wanted = self._bytes_max + 1 if length is None else length
        while size < wanted:
            piece = self._next_piece(source, sock, min(BODY_READ_BYTES_MAX, wanted - size))
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
            if size > self._bytes_max:
                raise RequestBodyTooLarge(self._bytes_max)
            if length is None:
                self._in_flight.take(environ, len(piece))
        return b"".join(pieces)

    def _next_piece(self, source: Any, sock: Any, size: int) -> bytes:
        try:
            with silence_limit(sock, self._silence_s):
                piece: bytes = source.read(size)
        except TimeoutError as exc:
            raise _too_slow() from exc
        except ProtocolError:
            raise
        except Exception as exc:
            # Every server has errors of its own for a broken chunk or a connection that went away.
            raise InvalidBody(f"failed to read request body: {exc}") from exc
        return piece


def _checked(body: bytes, length: int) -> bytes:
    if len(body) != length:
        raise InvalidBody(f"the body ended after {len(body)} of {length} bytes")
    return body


def _too_slow() -> BodyTimeout:
    return BodyTimeout("The request body arrived too slowly")
