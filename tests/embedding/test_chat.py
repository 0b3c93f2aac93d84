"""The example chat: its gate and its writes in process, and a person with a real browser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from webtest import TestApp

from examples.chat import create_app
from tests.servers import ROOT, running_server

BROWSER_SECONDS_MAX = 270


def words(prompt: str) -> Iterator[str]:
    yield from (f"{prompt}? ", "Yes.")


def stream_of(page: str) -> str:
    return page.partition('EventSource("')[2].partition("?")[0]


def test_a_message_and_its_answer_are_in_the_stream_of_the_page() -> None:
    client = TestApp(create_app(words))
    stream = stream_of(client.get("/").text)
    assert stream_of(client.get("/").text) == stream
    client.post("/messages", {"text": "Really"}, status=202)
    gevent.sleep(0)
    records = client.get(f"{stream}?offset=-1").json
    assert [(record["role"], record.get("part"), record.get("done")) for record in records] == [
        ("user", "Really", True),
        ("assistant", "Really? ", None),
        ("assistant", "Yes.", None),
        ("assistant", None, True),
    ]


def test_only_the_session_of_a_chat_reads_it_and_nobody_writes_it() -> None:
    app = create_app(words)
    owner, stranger = TestApp(app), TestApp(app)
    stream = stream_of(owner.get("/").text)
    stranger.get("/")
    assert owner.get(stream).json == []
    assert stranger.get(stream, status=403).json["code"] == "FORBIDDEN"
    assert stranger.get("/streams/chats/none", status=403).status_int == 403
    assert owner.post(stream, "[1]", content_type="application/json", status=405).json["status"] == 405
    assert owner.get("/elsewhere", status=404).content_type == "text/html"


@pytest.mark.parametrize("form", [{}, {"text": " "}])
def test_an_empty_message_is_refused(form: dict[str, str]) -> None:
    client = TestApp(create_app(words))
    client.post("/messages", {"text": "early"}, status=400)
    stream = stream_of(client.get("/").text)
    client.post("/messages", form, status=400)
    assert client.get(stream).json == []


@pytest.mark.server
@pytest.mark.node
def test_the_chat_survives_a_refresh_in_a_browser(node: str, browser: str, tmp_path: Path) -> None:
    settings = tmp_path / "gunicorn.conf.py"
    settings.touch()  # Somebody else's project: without our settings of gunicorn.
    options = ("--config", str(settings), "--bind", "127.0.0.1:0", "--worker-class", "gevent")
    command = (sys.executable, "-m", "gunicorn", *options, "tests.embedding.chat_app:app")
    program = ROOT / "tests" / "embedding" / "chat_in_browser.mjs"
    with running_server(tmp_path, command=command, ready_path="/") as server:
        finished = subprocess.run(
            [node, str(program), server.url, browser],
            capture_output=True,
            text=True,
            timeout=BROWSER_SECONDS_MAX,
        )
        assert finished.stdout == "all seen\n", f"{finished.stdout}{finished.stderr}\n{server.log}"
