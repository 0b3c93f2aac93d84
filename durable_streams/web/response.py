"""A response on its way out: a status, headers, and a body that is whole or arrives in pieces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from durable_streams.eventloop.turns import TURN_BYTES, LargeBody

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Header = tuple[str, str]
Environ = dict[str, Any]


class _StatusLines(dict[int, str]):
    def __missing__(self, status: int) -> str:
        return f"{status} Unknown"


STATUS_LINES: Final = _StatusLines({status.value: f"{status.value} {status.phrase}" for status in HTTPStatus})
"""A gate may refuse with any status, also with one that has no registered phrase."""


@dataclass(slots=True)
class Response:
    """``body`` is all of it as bytes, or an iterable of pieces for a body that is read or grows while it is sent.

    ``length``: of a body in pieces, in bytes, where it is known before they are.
    """

    status: int
    headers: list[Header] = field(default_factory=list)
    body: bytes | Iterable[bytes] = b""
    length: int | None = None

    def send(self, start_response: StartResponse, extra: list[Header]) -> Iterable[bytes]:
        """The body, after ``start_response``; ``extra`` are the headers that every response carries."""
        body = self.body
        headers = self.headers + extra
        if not isinstance(body, bytes):
            if self.length is not None:
                headers.append(("Content-Length", str(self.length)))
            start_response(STATUS_LINES[self.status], headers)
            return body
        if self.status not in (204, 304):
            headers.append(("Content-Length", str(len(body))))
        start_response(STATUS_LINES[self.status], headers)
        if len(body) > TURN_BYTES:
            return LargeBody(body)
        return [body] if body else []
