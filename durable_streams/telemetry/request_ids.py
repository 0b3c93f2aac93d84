"""Request ids: the header `X-Request-Id`, or an id that is made; in the log, in errors and in the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import count
from secrets import token_hex
from typing import Any, Final

REQUEST_ID: Final = "durable_streams.request_id"
"""The key of the environ that holds the id, where ids are on."""
HEADER: Final = "X-Request-Id"
_TAKEN: Final = re.compile(r"[A-Za-z0-9._~:@=+/-]{1,128}")
"""What cannot break a line of the log or a header; everything else is replaced."""

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class RequestIds:
    """A WSGI application that gives each request an id before ``application`` sees it."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._numbers = count(1)
        self._process: str | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request_id = environ[REQUEST_ID] = self._id_of(environ.get("HTTP_X_REQUEST_ID", ""))

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            headers = [*headers, (HEADER, request_id)]
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        return self._application(environ, start)

    def _id_of(self, sent: str) -> str:
        if _TAKEN.fullmatch(sent):
            return sent
        if self._process is None:
            # Made with the first request: workers are forked, and must not share it.
            self._process = token_hex(8)
        return f"{self._process}-{next(self._numbers):x}"
