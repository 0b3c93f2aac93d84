"""The examples for nginx and haproxy with two servers behind them: each stream has one, and live reads pass."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.servers import ROOT, free_port, running_server

pytestmark = pytest.mark.server

EXAMPLES = ROOT / "examples" / "scaling"
START_SECONDS_MAX = 30
GROUPS = 40
TEXT = {"Content-Type": "text/plain"}


@dataclass(frozen=True)
class Front:
    """A proxy, and the ports of the servers behind it."""

    port: int
    behind: tuple[int, int]

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, port: int = 0
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Through the proxy, or of the server at ``port``."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()


def nginx(config: str, folder: Path) -> list[str]:
    # What is the system's own in an installation.
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(config.replace("http {", f"http {{ access_log off; {paths}", 1))
    options = f"daemon off; pid {folder}/pid; error_log {folder}/errors;"
    return ["-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", options]


def haproxy(config: str, folder: Path) -> list[str]:
    (folder / "haproxy.cfg").write_text(config)
    return ["-db", "-f", str(folder / "haproxy.cfg")]


PROXIES = {"nginx": ("nginx.conf", nginx), "haproxy": ("haproxy.cfg", haproxy)}


@contextmanager
def running_proxy(name: str, folder: Path, ports: dict[int, int]) -> Iterator[None]:
    """The example as it is, but for its ports."""
    program = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        absent(f"{name} is not installed")
    file, command = PROXIES[name]
    config = (EXAMPLES / file).read_text()
    for example, port in ports.items():
        config, count = re.subn(rf"\b{example}\b", str(port), config)
        assert count == 1
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen([str(program), *command(config, folder)], stdout=log, stderr=log)
    try:
        await_listener(process, ports[4437], folder / "proxy.log")
        yield
    finally:
        process.terminate()
        process.wait(START_SECONDS_MAX)


def await_listener(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module", params=PROXIES)
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(running_server(tmp_path_factory.mktemp("server"))) for _ in range(2)
        )
        port = free_port()
        ports = {4437: port, 4438: first.port, 4439: second.port}
        stack.enter_context(running_proxy(request.param, tmp_path_factory.mktemp("proxy"), ports))
        yield Front(port, (first.port, second.port))


def test_every_stream_of_a_group_is_on_one_server(front: Front) -> None:
    on_first = 0
    for number in range(GROUPS):
        group = f"/v1/stream/group-{number}"
        for name in ("a", "b/c"):
            assert front.ask("PUT", f"{group}/{name}", b"x", TEXT)[0] == 201
        for query in ("", "?offset=-1", "?offset=-1&live=long-poll"):
            status, _, body = front.ask("GET", f"{group}/a{query}")
            assert (status, body) == (200, b"x")
        fork = {"Stream-Forked-From": f"{group}/a"}
        assert front.ask("PUT", f"{group}/fork", headers=fork)[0] == 201
        places = [
            [front.ask("HEAD", f"{group}/{name}", port=port)[0] for name in ("a", "b/c", "fork")]
            for port in front.behind
        ]
        assert sorted(places) == [[200, 200, 200], [404, 404, 404]]
        on_first += places[0][0] == 200
    # The hash does not leave one of them idle.
    assert 0 < on_first < GROUPS


def test_events_arrive_while_the_stream_is_open(front: Front) -> None:
    path = "/v1/stream/live/events"
    front.ask("PUT", path, headers=TEXT)
    with socket.create_connection(("127.0.0.1", front.port), timeout=60) as reader:
        reader.sendall(f"GET {path}?offset=-1&live=sse HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for number in range(3):
            assert front.ask("POST", path, b"event %d" % number, TEXT)[0] == 204
            seen = b""
            while b"event %d" % number not in seen:
                data = reader.recv(65_536)
                assert data
                seen += data


def test_a_long_poll_waits_through_the_proxy(front: Front) -> None:
    path = "/v1/stream/live/polled"
    offset = front.ask("PUT", path, headers=TEXT)[1]["Stream-Next-Offset"]
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=60)
    connection.request("GET", f"{path}?offset={offset}&live=long-poll")
    assert front.ask("POST", path, b"news", TEXT)[0] == 204
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"news")
    connection.close()


def test_a_body_in_chunks_and_a_long_page_pass(front: Front) -> None:
    path, payload = "/v1/stream/big/one", b"x" * 5_000_000
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=60)
    connection.request("PUT", path, iter([payload]), TEXT, encode_chunked=True)
    assert connection.getresponse().status == 201
    connection.close()
    _, headers, _ = front.ask("HEAD", path)
    read, offset = b"", "-1"
    while offset != headers["Stream-Next-Offset"]:
        _, page, body = front.ask("GET", f"{path}?offset={offset}")
        read, offset = read + body, page["Stream-Next-Offset"]
    assert read == payload
