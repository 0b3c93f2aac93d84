"""What is refused before the application is asked, as application/problem+json, like every other error.

gunicorn writes a page of HTML. Its one function for it is replaced in the worker process, so both worker classes,
and TLS, answer alike; `tests/server/test_refusals.py` holds that it is still the one that is called.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import gunicorn.util

RETRY_AFTER_S: Final = 1
_for_browsers: list[tuple[str, str]] = []


def answer_with_problems(headers: Sequence[tuple[str, str]]) -> None:
    """Report gunicorn's own errors in this process as problems from now on, with ``headers`` on each of them."""
    _for_browsers[:] = headers
    gunicorn.util.write_error = write_problem


def write_problem(sock: Any, status: int, reason: str, message: str) -> None:
    """The whole answer to a request that could not be read, or is not served; the connection ends with it."""
    known = HTTPStatus(int(status))
    # gunicorn says Bad Request of a transfer coding, and answers 501.
    title = reason if known == 400 or reason != "Bad Request" else known.phrase
    code = title.upper().replace(" ", "_")
    document = {
        "type": "/errors/" + code.lower().replace("_", "-"),
        "title": title,
        "status": known.value,
        "code": code,
        "detail": message or known.description or title,
    }
    body = json.dumps(document).encode("ascii")
    lines = [
        f"HTTP/1.1 {known.value} {title}",
        "Connection: close",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        *(f"{name}: {value}" for name, value in _for_browsers),
        *([f"Retry-After: {RETRY_AFTER_S}"] if known == 503 else []),
    ]
    gunicorn.util.write_nonblock(sock, "\r\n".join([*lines, "", ""]).encode("latin-1") + body)
