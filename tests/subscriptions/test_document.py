"""docs/subscriptions.md: the examples that it shows run against a real server, its tables name all that there is."""

from __future__ import annotations

import ast
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
PATIENCE_S = 180.0
LINES_MAX = 32
CODE = (ast.FunctionDef, ast.Assign, ast.AnnAssign, ast.If)
"""What counts as a line of an example, and not its imports and its docstring."""

pytestmark = pytest.mark.server


EXAMPLES = ROOT / "examples"
RECEIVER, WORKER = EXAMPLES / "webhook_receiver.py", EXAMPLES / "pull_worker.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("document"), DEVELOPMENT) as running:
        yield running


class Program:
    """An example in a process of its own."""

    def __init__(self, folder: Path, server: Server, command: list[str]) -> None:
        self._log = folder / f"{free_port()}.log"
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


StartProgram = Callable[..., Program]


@pytest.fixture
def start(server: Server, tmp_path: Path) -> Iterator[StartProgram]:
    started: list[Program] = []

    def start_one(*command: str) -> Program:
        started.append(Program(tmp_path, server, [sys.executable, *command]))
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
    receiver = start_receiver(start, port)
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


def test_r92_the_receiver_of_the_page_refuses_what_the_server_has_not_signed(
    server: Server, start: StartProgram
) -> None:
    import http.client

    port = free_port()
    start_receiver(start, port)
    forged = f"t={int(time.time())},kid=ds_none,ed25519=AAAA"
    for headers in ({}, {"Webhook-Signature": forged}, {"Webhook-Signature": "nonsense"}):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=180)
        connection.request(
            "POST", "/hook", b'{"streams": []}', {"Content-Type": "application/json", **headers}
        )
        assert connection.getresponse().status == 401
        connection.close()


def test_the_worker_of_the_page_processes_what_is_appended(server: Server, start: StartProgram) -> None:
    send(server, "PUT", "wake/pool")
    config = json.loads(config_of_the_page("pull-wake")) | {"pattern": "pulled/*"}
    send(server, "PUT", "__ds/subscriptions/pulled", config)
    worker = start(str(WORKER), "wake/pool", "worker-1")
    send(server, "PUT", "pulled/a", [{"n": 1}, {"n": 2}])
    worker.until("pulled/a {'n': 2}")
    for number in range(3, 6):
        send(server, "POST", "pulled/a", {"n": number})
        worker.until(f"pulled/a {{'n': {number}}}")
    until_caught_up(server, "pulled")


def start_receiver(start: StartProgram, port: int) -> Program:
    receiver = start("-m", "flask", "--app", str(RECEIVER), "run", "--port", str(port))
    receiver.until("Running on")
    return receiver


def config_of_the_page(kind: str) -> str:
    """The body of the request that the page shows for that type."""
    bodies: list[str] = re.findall(r"-d '(\{.*?\})'\n", PAGE)
    return next(body for body in bodies if json.loads(body)["type"] == kind)


@pytest.mark.parametrize("path", [RECEIVER, WORKER], ids=lambda path: path.stem)
def test_the_page_shows_the_examples_as_they_are_and_they_are_short(path: Path) -> None:
    program = path.read_text(encoding="utf-8")
    assert f"```python\n# examples/{path.name}\n{program}```" in PAGE
    tree = ast.parse(program)
    skipped = {number for node in tree.body if not isinstance(node, CODE) for number in lines_of(node)}
    lines = [
        line for number, line in enumerate(program.splitlines(), 1) if line.strip() and number not in skipped
    ]
    assert len(lines) <= LINES_MAX


def lines_of(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


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
