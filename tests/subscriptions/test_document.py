"""docs/subscriptions.md: its programs run against a real server, and its tables name all that there is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from durable_streams.protocol.subscriptions.config import SubscriptionConfig
from durable_streams.web.subscriptions.routes import SubscriptionRoutes
from tests.servers import ROOT, Server, free_port, running_server
from tests.subscriptions.driving import Subscribed

PAGE = (ROOT / "docs" / "subscriptions.md").read_text(encoding="utf-8")
BASE = "/v1/stream"
DEVELOPMENT = {"DS_STORAGE__MODE": "memory", "DS_PROFILE": "dev", "DS_SERVER__HOST": "127.0.0.1"}
PATIENCE_S = 60.0
LINES_MAX = 30

pytestmark = pytest.mark.server


def program(name: str) -> str:
    """The block of the page that begins with that comment."""
    blocks: list[str] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# {name}\n"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("document"), DEVELOPMENT) as running:
        yield running


class Program:
    """A program of the page in a process of its own."""

    def __init__(self, folder: Path, name: str, server: Server, command: list[str]) -> None:
        (folder / name).write_text(program(name), encoding="utf-8")
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | {"STREAMS": f"{server.url}{BASE}"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def until(self, text: str) -> None:
        """Wait until the program has written that."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            written = self._log.read_text(encoding="utf-8", errors="replace")
            if text in written:
                return
            assert self._process.poll() is None, f"it ended:\n{written}"
            time.sleep(0.02)
        raise AssertionError(f"{text!r} was not written:\n{written}")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


StartProgram = Callable[[str, list[str]], Program]


@pytest.fixture
def start(server: Server, tmp_path: Path) -> Iterator[StartProgram]:
    started: list[Program] = []

    def start_one(name: str, command: list[str]) -> Program:
        started.append(Program(tmp_path, name, server, [sys.executable, *command]))
        return started[-1]

    yield start_one
    for each in started:
        each.end()


def send(server: Server, method: str, path: str, document: Any = None) -> Any:
    body = None if document is None else json.dumps(document).encode()
    answer = server.request(method, f"{BASE}/{path}", body, {"Content-Type": "application/json"})
    assert answer.status < 300, answer
    return json.loads(answer.body) if answer.body else None


def cursors(server: Server, sub: str) -> dict[str, str]:
    shown = send(server, "GET", f"__ds/subscriptions/{sub}")
    return {link["path"]: link["acked_offset"] for link in shown["streams"]}


def until_caught_up(server: Server, sub: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        shown = send(server, "GET", f"__ds/subscriptions/{sub}")
        if shown["wake"] is None and not shown["lag"]["streams"]:
            return
        time.sleep(0.02)
    raise AssertionError(f"it does not catch up: {shown}")


def test_the_receiver_of_the_page_processes_what_is_appended(server: Server, start: StartProgram) -> None:
    port = free_port()
    receiver = start("receiver.py", ["-m", "flask", "--app", "receiver", "run", "--port", str(port)])
    receiver.until("Running on")
    config = json.loads(config_of_the_page("webhook"))
    config |= {"webhook": {"url": f"http://127.0.0.1:{port}/hook"}, "pattern": "hooked/*"}
    send(server, "PUT", "__ds/subscriptions/hooked", config)
    send(server, "PUT", "hooked/a", {"n": 1})
    receiver.until("hooked/a [{'n': 1}]")
    for number in range(2, 5):
        send(server, "POST", "hooked/a", {"n": number})
        receiver.until(f"hooked/a [{{'n': {number}}}]")
    until_caught_up(server, "hooked")
    assert send(server, "GET", "__ds/subscriptions/hooked")["attempts"] == 0


def test_the_receiver_of_the_page_refuses_what_the_server_has_not_signed(
    server: Server, start: StartProgram
) -> None:
    import http.client

    port = free_port()
    start("receiver.py", ["-m", "flask", "--app", "receiver", "run", "--port", str(port)]).until("Running on")
    forged = f"t={int(time.time())},kid=ds_none,ed25519=AAAA"
    for headers in ({}, {"Webhook-Signature": forged}, {"Webhook-Signature": "nonsense"}):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(
            "POST", "/hook", b'{"streams": []}', {"Content-Type": "application/json", **headers}
        )
        assert connection.getresponse().status == 401
        connection.close()


def test_the_worker_of_the_page_processes_what_is_appended(server: Server, start: StartProgram) -> None:
    send(server, "PUT", "wake/pool")
    config = json.loads(config_of_the_page("pull-wake")) | {"pattern": "pulled/*"}
    send(server, "PUT", "__ds/subscriptions/pulled", config)
    workers = [start("worker.py", ["worker.py", "wake/pool", f"worker-{number}"]) for number in (1,)]
    send(server, "PUT", "pulled/a", [{"n": 1}, {"n": 2}])
    workers[0].until("pulled/a {'n': 2}")
    for number in range(3, 6):
        send(server, "POST", "pulled/a", {"n": number})
        workers[0].until(f"pulled/a {{'n': {number}}}")
    until_caught_up(server, "pulled")


def config_of_the_page(kind: str) -> str:
    """The body of the request that the page shows for that type."""
    bodies: list[str] = re.findall(r"-d '(\{.*?\})'\n", PAGE)
    return next(body for body in bodies if json.loads(body)["type"] == kind)


@pytest.mark.parametrize("name", ["receiver.py", "worker.py"])
def test_the_programs_are_short(name: str) -> None:
    lines = [line for line in program(name).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("import ", "from ")) and line.strip()[0] != "#"]
    assert len(lines) <= LINES_MAX


def test_the_page_names_every_field_of_a_configuration() -> None:
    for name in SubscriptionConfig.__dataclass_fields__:
        assert f"`{name.replace('webhook_url', 'webhook.url')}`" in PAGE


def test_the_page_and_the_log_name_every_operation() -> None:
    server = Subscribed()
    routes = SubscriptionRoutes(server.subscriptions, _config(), BASE, gated=False)
    tables = [*routes._top.values(), *routes._below.values(), routes._one, routes._link]
    operations = {operation for methods in tables for operation, _ in methods.values()}
    command_line = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    for operation in operations:
        assert f"`{operation}`" in command_line
    for path in routes._top | routes._below:
        assert re.search(rf"`(GET|PUT|POST|DELETE) \S*{re.escape(path)}", PAGE), path
    server.close()


def _config() -> Any:
    from durable_streams.config import Config

    return Config()
