"""The request body: complete, in time and within its limit, or an error. A truncated body is never accepted."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

from durable_streams.eventloop.deadline import deadline
from durable_streams.protocol.errors import BodyTimeout, InvalidBody, RequestBodyTooLarge
from durable_streams.web.response import Environ

PIECE_BYTES: Final = 1024 * 1024
_LENGTH_DIGITS_MAX: Final = 18
SLOWEST_BYTES_PER_S: Final = 100_000
"""The minimum rate of a body, added to its fixed time limit."""


class BodyReader:
    """Reads bodies of at most ``bytes_max`` bytes, within ``timeout_s`` plus the time at SLOWEST_BYTES_PER_S."""

    def __init__(self, bytes_max: int, timeout_s: float) -> None:
        self._bytes_max = bytes_max
        self._timeout_s = timeout_s

    def read(self, environ: Environ) -> bytes:
        """The complete body. Raises InvalidBody, BodyTimeout, or RequestBodyTooLarge (then often unread)."""
        length = self._declared_length(environ)
        if length == 0:
            return b""
        source = environ["wsgi.input"]
        if type(source) is BytesIO and length is not None:
            return self._checked(source.read(length), length)
        expected = self._bytes_max if length is None else length
        with deadline(self._timeout_s + expected / SLOWEST_BYTES_PER_S, _too_slow):
            body = self._read_pieces(source, length)
        return self._checked(body, length)

    def _declared_length(self, environ: Environ) -> int | None:
        """Content-Length, or None for a chunked body, which marks its own end."""
        text = environ.get("CONTENT_LENGTH")
        if text:
            if not (text.isascii() and text.isdigit()):
                raise InvalidBody(f"Content-Length {text!r} is not a number of bytes")
            # Checked as text: int() refuses thousands of digits.
            if len(text) > _LENGTH_DIGITS_MAX or int(text) > self._bytes_max:
                raise RequestBodyTooLarge(self._bytes_max)
            return int(text)
        return None if environ.get("HTTP_TRANSFER_ENCODING") else 0

    def _read_pieces(self, source: Any, length: int | None) -> bytes:
        pieces: list[bytes] = []
        size = 0
        wanted = self._bytes_max + 1 if length is None else length
        while size < wanted:
            piece = _next_piece(source, min(PIECE_BYTES, wanted - size))
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
            if size > self._bytes_max:
                raise RequestBodyTooLarge(self._bytes_max)
        return b"".join(pieces)

    def _checked(self, body: bytes, length: int | None) -> bytes:
        if length is not None and len(body) != length:
            raise InvalidBody(f"the body ended after {len(body)} of {length} bytes")
        return body


def _next_piece(source: Any, size: int) -> bytes:
    try:
        piece: bytes = source.read(size)
    except TimeoutError as exc:
        raise _too_slow() from exc
    except Exception as exc:
        # Each WSGI server has its own errors for a broken chunk or a lost connection.
        raise InvalidBody(f"failed to read request body: {exc}") from exc
    return piece


def _too_slow() -> BodyTimeout:
    return BodyTimeout("The request body arrived too slowly")
