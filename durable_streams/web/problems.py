"""A refusal as application/problem+json (RFC 9457): any ProtocolError, without knowing one by name."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from durable_streams.protocol.caching import NO_STORE
from durable_streams.protocol.errors import ProtocolError
from durable_streams.web.response import Answer, Environ

PROBLEM_TYPE: Final = "application/problem+json"


def problem_response(error: ProtocolError, environ: Environ) -> Answer:
    """The answer to a refused request; to HEAD the same headers without the body."""
    document = {
        "type": error.type,
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "instance": request_path(environ),
    }
    headers = [("Content-Type", PROBLEM_TYPE), ("Cache-Control", NO_STORE), *map(_one_line, error.headers)]
    body = json.dumps(document).encode("ascii")
    if environ["REQUEST_METHOD"] == "HEAD":
        return Answer(error.status, headers, iter(()))
    return Answer(error.status, headers, body)


def request_path(environ: Environ) -> str:
    """The path of the request target, percent-encoded as it has to be in a URL."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return quote(path.encode("latin-1"), safe="/:@!$&'()*+,;=~")


def _one_line(header: tuple[str, str]) -> tuple[str, str]:
    name, value = header
    return name, value.replace("\r", " ").replace("\n", " ")
