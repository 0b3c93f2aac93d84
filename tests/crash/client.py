"""The HTTP of the crash tests: one kept connection, requests for streams, and whole reads of them."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.model import Content
from tests.servers import Answer, Server

NO_ANSWER = (OSError, http.client.HTTPException)
"""What a request raises when the server dies before it has answered in full."""

PATIENCE_S = 120.0
PAUSE_S = 0.02
"""Between two attempts of a request that was answered 503."""


def stream_path(name: str) -> str:
    return "/v1/stream/" + quote(name)


class Client:
    """One connection to a server, used by one thread until the block ends."""

    timeout_s = 30.0

    def __init__(self, server: Server) -> None:
        self._connection = server.connect(self.timeout_s)

    def send(
        self,
        method: str,
        name: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        query: str = "",
    ) -> Answer:
        """Raises one of NO_ANSWER when the connection breaks, whatever the server has done by then."""
        path = stream_path(name) + query
        self._connection.request(method, path, body=body or None, headers=dict(headers or {}))
        response = self._connection.getresponse()
        return Answer(
            response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


class PatientClient(Client):
    """Sends again what was answered 503, whatever it was: that answer says that nothing of it was kept."""

    timeout_s = 300.0
    """When all workers were killed, a request waits until one has started: minutes on a crowded machine."""

    def send(
        self,
        method: str,
        name: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        query: str = "",
    ) -> Answer:
        """Also raises one of NO_ANSWER where the server itself cannot tell the outcome of a write."""
        until = time.monotonic() + PATIENCE_S
        while True:
            answer = super().send(method, name, headers, body, query)
            if answer.status == 500 and method not in ("GET", "HEAD"):
                raise http.client.HTTPException(f"{method} {name}: {answer.body[:300]!r}")
            if answer.status != 503 or time.monotonic() > until:
                return answer
            time.sleep(PAUSE_S)


@dataclass(frozen=True)
class Seen:
    """What a server shows of a stream: its content from some offset to the tail, or why there is none."""

    status: int
    content_type: str = ""
    content: Content = b""
    closed: bool = False
    tail: str = ""


def read_all(client: Client, name: str, offset: str = "-1") -> Seen:
    """Catch-up reads from `offset` until the server says that there is no more."""
    parts: list[Any] = []
    while True:
        answer = client.send("GET", name, query=f"?offset={offset}")
        if answer.status != 200:
            return Seen(answer.status)
        content_type = answer.headers["content-type"]
        parts.extend(json.loads(answer.body) if content_type == "application/json" else [answer.body])
        offset = answer.headers["stream-next-offset"]
        if "stream-up-to-date" in answer.headers:
            content = tuple(parts) if content_type == "application/json" else b"".join(parts)
            return Seen(200, content_type, content, "stream-closed" in answer.headers, offset)
