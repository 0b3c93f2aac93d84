"""The response on the fast path: `start_response`, its framing, and its bytes on the socket.

All that the application has yielded is sent before it is asked for more, so others may send live events on the same
socket meanwhile. What a status or a header means is decided by the application.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from time import time
from types import TracebackType
from typing import Any, Final

from gunicorn import SERVER
from gunicorn.http.wsgi import HEADER_VALUE_RE, STATUS_RE, TOKEN_RE
from gunicorn.util import hop_headers, http_date

from durable_streams.eventloop.turns import TURN_BYTES, LargeBody, StreamedBody
from durable_streams.worker.bodies import ClientDisconnected, RequestBody
from durable_streams.worker.client_socket import ClientSocket

REMEMBERED_MAX: Final = 512
"""Headers, their names, and status lines that are checked once and then known. More are checked every time."""
KEPT_VALUE_CHARACTERS_MAX: Final = 256
"""Of a header that is remembered."""
_NO_LINE: Final = ""
"""The line of a header that the server itself sends, or leaves out."""
LAST_CHUNK: Final = b"0\r\n\r\n"
WHITE_SPACE: Final = " \t"

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

_CONTENT_LENGTH: Final = "content-length"
_HOP_BY_HOP: Final = "hop-by-hop"
_END_TO_END: Final = "end-to-end"
_kinds: Final[dict[str, str]] = {}
_codes: Final[dict[str, int]] = {}


class ResponseError(Exception):
    """The application violates WSGI (PEP 3333)."""


class OwnHeaders:
    """The headers that the server itself adds to every response, made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._keep_alive = self._close = ""

    def lines(self, keep_alive: bool) -> str:
        second = int(time())
        if second != self._second:
            self._second = second
            common = f"Server: {SERVER}\r\nDate: {http_date(second)}\r\nConnection: "
            self._keep_alive = common + "keep-alive\r\n"
            self._close = common + "close\r\n"
        return self._keep_alive if keep_alive else self._close


class FastResponse:
    """One response. ``keep_alive`` says, in the end, whether another request may follow it."""

    __slots__ = (
        "_chunked",
        "_client",
        "_headers",
        "_is_head",
        "_left",
        "_length",
        "_omits_body",
        "_request_body",
        "_status",
        "_worker",
        "has_begun",
        "keep_alive",
    )

    def __init__(self, worker: Any, client: ClientSocket, is_head: bool, keep_alive: bool) -> None:
        self._worker = worker
        self._client = client
        self._is_head = is_head
        self._request_body: RequestBody | None = None
        self._status = ""
        self._headers: list[str] = []
        self._length: int | None = None
        self._left = 0
        self._omits_body = self._chunked = False
        self.has_begun = False
        self.keep_alive = keep_alive

    def depends_on(self, body: RequestBody) -> None:
        """A response before the end of a large request ``body`` is the last one of its connection."""
        self._request_body = body

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Any:
        """PEP 3333. Raises what gunicorn raises on a status, name or value that would break the head."""
        if exc_info is not None:
            try:
                if self.has_begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._status:
            raise ResponseError("start_response was called twice")
        code = _codes.get(status) or _checked_code(status)
        self._status = status
        self._omits_body = self._is_head or code in (204, 304) or code < 200
        self._length = None
        self._headers = lines = list(map(_line_of, headers))
        if _NO_LINE in lines and code != 204 and code >= 200:
            self._length = _declared_length(lines, headers)
        return self.write

    def send(self, body: Iterable[bytes]) -> None:
        """Send the whole response; a body that is complete goes out together with the head."""
        if isinstance(body, list | tuple):
            self._send_whole(body[0] if len(body) == 1 else b"".join(body))
            return
        if isinstance(body, LargeBody):
            self._send_whole(body.whole)
            return
        for piece in body.pieces if isinstance(body, StreamedBody) else body:
            self.write(piece)
            if self._omits_body:
                break
        self._end()

    def write(self, piece: bytes) -> None:
        """Send a piece, and the head before the first one; also PEP 3333's `write`."""
        if not isinstance(piece, bytes):
            raise TypeError(f"{type(piece).__name__} in a body: every piece must be bytes")
        before = after = b""
        if not self.has_begun:
            self._chunked = self._length is None and not self._omits_body
            self._left = self._length or 0
            before = self._head("Transfer-Encoding: chunked\r\n" if self._chunked else "")
        if self._omits_body:
            piece = b""
        elif not self._chunked:
            piece = piece[: self._left]
            self._left -= len(piece)
        elif piece:
            before += b"%x\r\n" % len(piece)
            after = b"\r\n"
        self._transmit(before, piece, after)

    def _send_whole(self, body: bytes) -> None:
        if self.has_begun:
            self.write(body)
            self._end()
            return
        if not isinstance(body, bytes):
            raise TypeError(f"{type(body).__name__} in a body: every piece must be bytes")
        if self._omits_body:
            self._transmit(self._head(""), b"", b"")
            return
        if self._length is None:
            self._length = len(body)
        elif self._length != len(body):
            self.write(body)
            self._end()
            return
        self._transmit(self._head(""), body, b"")

    def _end(self) -> None:
        if not self.has_begun:
            if self._length is None and not self._omits_body:
                self._length = 0
            self.write(b"")
        if self._chunked:
            self._transmit(LAST_CHUNK, b"", b"")
        elif self._left and not self._omits_body:
            # Less than promised: the client must not take the next response for the rest.
            self.keep_alive = False

    def _head(self, framing: str) -> bytes:
        worker, body = self._worker, self._request_body
        if not self._status:
            raise ResponseError("a body without start_response")
        if not worker.alive or (body is not None and body.has_unread_rest):
            self.keep_alive = False
        if self._length is not None:
            framing = f"Content-Length: {self._length}\r\n"
        self.has_begun = True
        own = worker.own_headers.lines(self.keep_alive)
        return f"HTTP/1.1 {self._status}\r\n{own}{framing}{''.join(self._headers)}\r\n".encode("latin-1")

    def _transmit(self, before: bytes, piece: bytes, after: bytes) -> None:
        client = self._client
        try:
            if len(piece) <= TURN_BYTES:
                client.send_all(before + piece + after)
                return
            # Not joined: copying costs about as much as sending.
            for part in (before, piece, after):
                if part:
                    client.send_all(part)
        except OSError as exc:
            raise ClientDisconnected(str(exc)) from exc


def _checked_code(status: str) -> int:
    if not isinstance(status, str):
        raise TypeError(f"{status!r} is not a string")
    if not STATUS_RE.fullmatch(status):
        raise ResponseError(f"{status!r} is not a status")
    code = int(status[:3])
    if len(_codes) < REMEMBERED_MAX:
        _codes[status] = code
    return code


def _checked_kind(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is not a string")
    if not TOKEN_RE.fullmatch(name):
        raise ResponseError(f"{name!r} is not the name of a header")
    lower = name.lower()
    kind = (
        _CONTENT_LENGTH if lower == _CONTENT_LENGTH else _HOP_BY_HOP if lower in hop_headers else _END_TO_END
    )
    if len(_kinds) < REMEMBERED_MAX:
        _kinds[name] = kind
    return kind


def _check_value(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"the value of {name} is not a string")
    # The value is not named: it may be one that nobody else should see.
    if not HEADER_VALUE_RE.fullmatch(value):
        raise ResponseError(f"the value of {name} cannot stand in a head")


class _Lines(dict[tuple[str, str], str]):
    """Headers as they are sent. Most are the same in every response: those are checked once."""

    def __missing__(self, header: tuple[str, str]) -> str:
        name, value = header
        kind = _kinds.get(name) or _checked_kind(name)
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            _check_value(name, value)
        if kind is _CONTENT_LENGTH:
            _length_of(value)
        line = f"{name}: {value.strip(WHITE_SPACE)}\r\n" if kind is _END_TO_END else _NO_LINE
        if len(value) <= KEPT_VALUE_CHARACTERS_MAX:
            if len(self) >= REMEMBERED_MAX:
                # Those that come again are soon back.
                self.clear()
            self[header] = line
        return line


_line_of: Final = _Lines().__getitem__


def _declared_length(lines: list[str], headers: list[tuple[str, str]]) -> int | None:
    """Of the Content-Length among the ``headers`` that have no line; None when there is none."""
    length = None
    for at in range(lines.index(_NO_LINE), len(lines)):
        if lines[at] is _NO_LINE:
            name, value = headers[at]
            if _kinds.get(name) is _CONTENT_LENGTH or name.lower() == _CONTENT_LENGTH:
                length = _length_of(value)
    return length


@lru_cache(REMEMBERED_MAX)
def _length_of(value: str) -> int:
    digits = value.strip(WHITE_SPACE)
    if not (digits.isascii() and digits.isdigit()):
        raise ResponseError(f"{value!r} is not a length")
    return int(digits)
