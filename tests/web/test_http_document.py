"""docs/http.md against the code: every example is sent, every problem, status and request header has its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import Any

import pytest
from webtest import TestApp

from durable_streams.app import create_app
from durable_streams.config import Config
from durable_streams.protocol import errors
from durable_streams.protocol.errors import (
    CrossOriginWrite,
    Forbidden,
    ProtocolError,
    StorageFull,
    StreamDamaged,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from durable_streams.web.blueprint import EXTENSION
from durable_streams.web.cors import ALLOWED_HEADERS, EXPOSED_HEADERS
from durable_streams.web.exchange import Exchange
from tests.clock import Clock
from tests.servers import ROOT
from tests.web.driving import START
from tests.web.test_problems import Failing

PAGE = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
SETTINGS = {
    "log": {"rust_log": "off"},
    "limits": {
        "max_request_body_bytes": 64,
        "max_stream_bytes": 96,
        "max_messages_per_request": 8,
        "max_producers_per_stream": 1,
    },
    "server": {"long_poll_timeout_secs": 0.01},
    "quotas": {"by_prefix": [{"prefix": "small/", "max_bytes": 20}]},
}
LISTED = {"cors_origins": ["https://app.example"]}
OF_EVERY_RESPONSE = {
    "X-Content-Type-Options",
    "Content-Security-Policy",
    "Cross-Origin-Resource-Policy",
    "Access-Control-Allow-Origin",
    "Access-Control-Expose-Headers",
    "Content-Length",
}
ABSTRACT = {errors.Conflict}
"""Never raised itself; its type is that of a 409 of somebody else."""


@dataclass
class Example:
    """A request of the page and the response that it shows, under the heading that it has."""

    heading: str
    method: str
    target: str
    headers: dict[str, str]
    body: str
    response: str

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


def examples() -> Iterator[Example]:
    heading = ""
    for part in re.findall(r"^#+ ([^\n]*)$|^```http\n(.*?)```$", PAGE, re.DOTALL | re.MULTILINE):
        heading = part[0] or heading
        if part[1]:
            yield example(heading.strip("`"), part[1])


def example(heading: str, text: str) -> Example:
    request, _, response = text.partition("\nHTTP/1.1 ")
    head, _, body = request.partition("\n\n")
    first, *lines = head.splitlines()
    method, target = first.split()
    headers = dict(line.split(": ", 1) for line in lines)
    return Example(heading, method, target, headers, body.removesuffix("\n"), response.removesuffix("\n"))


EXAMPLES = list(examples())
PHRASES = {int(number): phrase for number, phrase in re.findall(r"^\| (\d{3}) (.*?) \|", PAGE, re.MULTILINE)}
LIFE = re.compile(r"\d{16}(?=_\d{16})")
"""The half of an offset that differs from run to run."""


def gate(exchange: Exchange) -> None:
    if exchange.name == "popular":
        raise TooManyRequests("More than 10 requests a second from one address", 1)
    if exchange.name.startswith("team/"):
        if "HTTP_AUTHORIZATION" not in exchange.environ:
            raise Unauthorized("A token is needed to read team/plan")
        raise Forbidden("A guest may not read team/plan")


class Slow(BytesIO):
    """A body that does not come."""

    def read(self, size: int | None = -1) -> bytes:
        raise TimeoutError


GATED = {error.type for error in (Unauthorized, Forbidden, TooManyRequests)}
FAILURES: dict[str, ProtocolError] = {
    "/errors/internal": StreamDamaged("checksum"),
    "/errors/unavailable": Unavailable("busy"),
    "/errors/insufficient-storage": StorageFull("no room"),
}


class Conversation:
    """All examples, sent in the order of the page to one server."""

    def __init__(self) -> None:
        config = Config.model_validate(SETTINGS)
        self._storage = Failing()
        app = create_app(config, self._storage)
        app.extensions[EXTENSION].store._pipeline.clock = Clock(START)
        self._client = TestApp(app)
        self._guarded = TestApp(create_app(config, gates=[gate]))
        self._listed = TestApp(create_app(Config.model_validate({**SETTINGS, "http": LISTED})))
        self._client.put("/v1/stream/deleted", headers={"Content-Type": "text/plain"})
        self._client.put("/v1/stream/kept", headers={"Stream-Forked-From": "deleted"})
        self._client.delete("/v1/stream/deleted")

    def _client_for(self, heading: str) -> TestApp:
        if heading in GATED:
            return self._guarded
        return self._listed if heading == CrossOriginWrite.type else self._client

    def response_to(self, example: Example) -> str:
        body: dict[str, Any] = {"body": example.body.encode()}
        if "Content-Length" in example.headers:
            # The client says how much it will send, and does not.
            source = BytesIO(example.body.encode()) if example.body else Slow()
            length = example.headers["Content-Length"]
            body = {"environ": {"CONTENT_LENGTH": length, "wsgi.input": source}}
        self._storage.error = FAILURES.get(example.heading)
        client = self._client_for(example.heading)
        response = client.request(
            example.target,
            method=example.method,
            headers={name: value for name, value in example.headers.items() if name != "Content-Length"},
            status="*",
            **body,
        )
        self._storage.error = None
        return as_text(response)


def as_text(response: Any) -> str:
    """A response as the page has it: its status, its own headers, its body."""
    lines = [f"{response.status_int} {PHRASES[response.status_int]}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items() if name not in OF_EVERY_RESPONSE]
    body = response.text if response.body else ""
    if response.content_type == "application/problem+json" and body:
        body = json.dumps(response.json, indent=2)
    return "\n".join([*lines, *(["", body.rstrip("\n")] if body else [])])


@pytest.fixture(scope="module")
def conversation() -> dict[int, str]:
    """The response to each example, by its number on the page."""
    talk = Conversation()
    return {number: talk.response_to(example) for number, example in enumerate(EXAMPLES)}


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=lambda number: str(EXAMPLES[number]))
def test_an_example_is_answered_as_the_page_says(conversation: dict[int, str], number: int) -> None:
    shown, sent = (LIFE.sub("LIFE", text) for text in (EXAMPLES[number].response, conversation[number]))
    pattern = re.escape(shown).replace("…", ".+?")
    assert re.fullmatch(pattern, sent), f"the page has\n{shown}\n\nthe server sent\n{sent}"


def concrete_errors() -> list[type[ProtocolError]]:
    found: list[type[ProtocolError]] = []
    waiting = [ProtocolError]
    while waiting:
        waiting += (current := waiting.pop()).__subclasses__()
        if current.__module__ == errors.__name__ and current not in ABSTRACT:
            found.append(current)
    return found


@pytest.mark.parametrize("error", concrete_errors(), ids=lambda error: error.__name__)
def test_the_page_has_each_error_with_an_example_of_its_own(error: type[ProtocolError]) -> None:
    section = PAGE.partition(f"\n### `{error.type}`\n")[2].partition("\n##")[0]
    assert f"Status {error.status}, code `{error.code}`." in section
    shown = [example.response for example in EXAMPLES if example.heading == error.type]
    assert any(f'"type": "{error.type}"' in response for response in shown)


def test_the_page_has_no_error_that_there_is_not() -> None:
    headings = re.findall(r"^### `(/errors/.*)`$", PAGE, re.MULTILINE)
    assert sorted(headings) == sorted({error.type for error in concrete_errors()})


def test_the_page_has_each_status_of_its_examples_and_of_the_errors() -> None:
    statuses = {int(example.response[:3]) for example in EXAMPLES} | {
        error.status for error in concrete_errors()
    }
    assert set(PHRASES) == statuses
    # RFC 9110 has another name for 413 than older versions of Python.
    assert set(PHRASES.values()) <= {status.phrase for status in HTTPStatus} | {"Content Too Large"}


@pytest.mark.parametrize("header", list(ALLOWED_HEADERS) + EXPOSED_HEADERS.split(", "))
def test_the_page_has_each_header_that_browsers_may_use(header: str) -> None:
    # HTTP's own, which every client knows.
    if header not in ("Cache-Control", "Authorization"):
        assert header in PAGE


def test_what_section_means_is_one_commit() -> None:
    commits = set(re.findall(r"/blob/([0-9a-f]{40})/PROTOCOL\.md", PAGE))
    assert len(commits) == 1
    assert f"`{commits.pop()[:7]}`" in PAGE
