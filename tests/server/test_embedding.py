"""The example of somebody's own Flask app: its page and the streams live side by side, in process and served."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from webtest import TestApp

from examples.embedding import create_app
from tests.server.sockets import Exchange
from tests.servers import running_server

BOOK = "/streams/guest-book"
JSON = {"Content-Type": "application/json"}


def test_the_page_and_the_streams_answer_in_one_app() -> None:
    client = TestApp(create_app())
    assert "guest book" in client.get("/").text
    assert client.put(BOOK, headers=JSON).status_int == 201
    assert client.post(BOOK, '{"text":"I was here"}', headers=JSON).status_int == 204
    assert client.get(BOOK).json == [{"text": "I was here"}]


def test_errors_of_streams_are_problems_and_those_of_the_app_stay_its_own() -> None:
    client = TestApp(create_app())
    assert client.get("/streams/elsewhere", status=404).content_type == "application/problem+json"
    assert client.get("/elsewhere", status=404).content_type == "text/html"
    assert client.get("/v1/stream/guest-book", status=404).content_type == "text/html"


@pytest.mark.server
def test_the_example_is_served_by_the_command_that_it_names(tmp_path: Path) -> None:
    settings = tmp_path / "gunicorn.conf.py"
    settings.touch()  # Somebody else's project: without our settings of gunicorn.
    options = ("--config", str(settings), "--bind", "127.0.0.1:0", "--worker-class", "gevent")
    command = (sys.executable, "-m", "gunicorn", *options, "examples.embedding:app")
    with running_server(tmp_path, command=command, ready_path="/") as server, Exchange(server.port) as page:
        server.request("PUT", BOOK, headers=JSON)
        page.send_request("GET", f"{BOOK}?offset=-1&live=sse")
        page.read_until(b"event: control")
        server.request("POST", BOOK, b'{"text":"I was here"}', JSON)
        assert b'[{"text":"I was here"}]' in page.read_until(b"event: control\ndata")
