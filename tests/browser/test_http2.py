"""Eight event streams in one page: over HTTP/1.1 two are silent; behind the proxies of docs/deployment.md none is."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.servers import ROOT, Server, TlsFiles, free_port, running_server

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
PROGRAM = Path(__file__).with_name("eight_streams.mjs")
BROWSER_SECONDS_MAX = 280
"""Only so that a hanging browser ends; nothing here waits for a time to pass."""

pytestmark = [pytest.mark.server, pytest.mark.node]


def documented(language: str) -> str:
    """The one block of the page in that language."""
    (block,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(block)


def fitted(block: str, places: Mapping[str, str]) -> str:
    """``block`` with the page's examples of places replaced; each stands there once."""
    for example, real in places.items():
        assert block.count(example) == 1, example
        block = block.replace(example, real)
    return block


def nginx(folder: Path, port: int, upstream: int, tls: TlsFiles) -> list[str]:
    places = {
        "127.0.0.1:4437": f"127.0.0.1:{upstream}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/ssl/streams.pem": str(tls.certificate),
        "/etc/ssl/private/streams.pem": str(tls.key),
    }
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    whole = f"{user}daemon off;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n"
    (folder / "nginx.conf").write_text(whole + temporary + fitted(documented("nginx"), places) + "}\n")
    return ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, upstream: int, tls: TlsFiles) -> list[str]:
    places = {
        "127.0.0.1:4437": f"127.0.0.1:{upstream}",
        "streams.example.org {": f"https://127.0.0.1:{port} {{\n    tls {tls.certificate} {tls.key}",
    }
    own = "{\n    admin off\n    auto_https off\n    skip_install_trust\n}\n"
    (folder / "Caddyfile").write_text(own + fitted(documented("caddyfile"), places))
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@contextmanager
def proxy(
    build: Callable[[Path, int, int, TlsFiles], list[str]], server: Server, folder: Path, tls: TlsFiles
) -> Iterator[str]:
    """A proxy in front of ``server``; gives its URL."""
    port = free_port()
    command = build(folder, port, server.port, tls)
    if shutil.which(command[0]) is None:
        absent(f"{command[0]} is not installed (Debian: apt-get install {command[0]})")
    with (folder / "proxy.log").open("wb") as log:
        home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        process = subprocess.Popen(command, env=os.environ | home, stdout=log, stderr=log)
    try:
        front = Server(process, port, folder / "proxy.log", tls)
        front.await_true(lambda: is_ready(front))
        yield front.url
    finally:
        process.terminate()
        process.wait()


def is_ready(front: Server) -> bool:
    try:
        return front.request("GET", "/readyz").status == 200
    except (OSError, ssl.SSLError):
        return False


def all_is_seen(node: str, browser: str, url: str, protocol: str) -> None:
    finished = subprocess.run(
        [node, str(PROGRAM), url, browser, protocol],
        capture_output=True,
        text=True,
        timeout=BROWSER_SECONDS_MAX,
    )
    assert finished.stdout == "all seen\n", f"{finished.stdout}{finished.stderr}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path, {"DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "0"}) as running:
        yield running


@pytest.mark.parametrize("build", [nginx, caddy], ids=["nginx", "caddy"])
def test_over_http2_eight_event_streams_live_in_one_page(
    build: Callable[[Path, int, int, TlsFiles], list[str]],
    server: Server,
    tls_files: TlsFiles,
    node: str,
    browser: str,
    tmp_path: Path,
) -> None:
    with proxy(build, server, tmp_path, tls_files) as url:
        all_is_seen(node, browser, url, "h2")


def test_over_http1_two_of_eight_event_streams_are_silent(server: Server, node: str, browser: str) -> None:
    all_is_seen(node, browser, server.url, "http/1.1")
