"""Errors of gunicorn's parser as application/problem+json, like every other error.

gunicorn writes a page of HTML. Its one function for it is replaced in the worker process, so both worker classes,
and TLS, answer alike; `tests/server/test_refusals.py` holds that it is still the one that is called.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import gunicorn.util


def answer_with_problems() -> None:
    """Report gunicorn's own errors in this process as problems from now on."""
    gunicorn.util.write_error = write_problem


def write_problem(sock: Any, status: int, reason: str, message: str) -> None:
    """The whole answer to a request that could not be read; the connection ends with it."""
    code = reason.upper().replace(" ", "_")
    document = {
        "type": "/errors/" + code.lower().replace("_", "-"),
        "title": reason,
        "status": int(status),
        "code": code,
        "detail": message or HTTPStatus(int(status)).description or reason,
    }
    body = json.dumps(document).encode("ascii")
    head = (
        f"HTTP/1.1 {int(status)} {reason}\r\n"
        "Connection: close\r\n"
        "Content-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Cross-Origin-Resource-Policy: cross-origin\r\n"
        "\r\n"
    )
    gunicorn.util.write_nonblock(sock, head.encode("latin-1") + body)
