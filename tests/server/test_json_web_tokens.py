"""JSON Web Tokens and signed URLs at the real server: keys that rotate, an issuer that hangs, logs without tokens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.access.signing import Issuer, issuer, jwk_set
from tests.servers import ROOT, Server, running_server, server_environ

pytestmark = pytest.mark.server

TEXT = {"Content-Type": "text/plain"}
OLD, NEW = issuer("ES256", "old"), issuer("EdDSA", "new")
STREAM = "/v1/stream/a"


class KeyServer:
    """Where an issuer publishes its keys. It answers while ``open`` is set."""

    def __init__(self) -> None:
        self.keys = jwk_set(OLD)
        self.fetches = 0
        self.open = Event()
        self.open.set()
        place = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                place.fetches += 1
                place.open.wait(60)
                self.send_response(200)
                self.send_header("Content-Length", str(len(place.keys)))
                self.end_headers()
                self.wfile.write(place.keys)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"


@pytest.fixture
def place() -> Iterator[KeyServer]:
    found = KeyServer()
    with found.server:
        Thread(target=found.server.serve_forever, daemon=True).start()
        yield found
        found.open.set()
        found.server.shutdown()


def settings(place: KeyServer) -> dict[str, str]:
    return {
        "DS_AUTH__MODE": "jwt",
        "DS_AUTH__JWT_KEYS_URL": place.url,
        "DS_AUTH__JWT_KEYS_RETRY_SECS": "1",
        "DS_AUTH__JWT_STREAMS_CLAIM": "",
    }


def status(server: Server, signer: Issuer, method: str = "GET", scope: str = "read") -> int:
    bearer = {"Authorization": f"Bearer {signer.token(scope=scope)}"}
    return server.request(method, STREAM, b"", TEXT | bearer).status


def test_keys_of_a_url_rotate_without_a_restart(tmp_path: Path, place: KeyServer) -> None:
    with running_server(tmp_path, settings(place)) as server:
        assert server.request("GET", STREAM).status == 401
        assert place.fetches == 0
        assert status(server, OLD, "PUT", "create") == 201
        assert all(status(server, OLD) == 200 for _ in range(5))
        assert place.fetches == 1
        place.keys = jwk_set(NEW)
        server.await_true(lambda: status(server, NEW) == 200)
        assert status(server, OLD) == 401
        assert OLD.token(scope="read").split(".")[0] not in server.log


def test_an_issuer_that_hangs_holds_up_nobody_else(tmp_path: Path, place: KeyServer) -> None:
    with running_server(tmp_path, settings(place)) as server:
        place.open.clear()
        waiting = [Thread(target=status, args=(server, OLD)) for _ in range(3)]
        for each in waiting:
            each.start()
        server.await_true(lambda: place.fetches)
        assert server.request("GET", "/healthz").status == 200
        assert server.request("GET", STREAM).status == 401
        assert place.fetches == 1
        place.open.set()
        for each in waiting:
            each.join()
        assert status(server, OLD) == 404


def test_a_signed_url_reads_and_stands_in_no_log(tmp_path: Path, place: KeyServer) -> None:
    keys = tmp_path / "url-keys"
    keys.write_text("0123456789abcdef" * 4)
    access_log = tmp_path / "access.log"
    chosen = settings(place) | {
        "DS_AUTH__URL_KEYS_PATH": str(keys),
        "DS_LOG__RUST_LOG": "trace",
        "GUNICORN_CMD_ARGS": f"--access-logfile={access_log}",
    }
    with running_server(tmp_path, chosen) as server:
        assert status(server, OLD, "PUT", "create") == 201
        signed = subprocess.run(
            [sys.executable, "-m", "durable_streams", "sign-url", "a", "--expires", "5m"],
            cwd=ROOT,
            env=server_environ(chosen, tmp_path),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        secret = signed.removeprefix("token=")
        assert server.request("GET", f"{STREAM}?offset=-1&{signed}").status == 200
        assert server.request("GET", f"{STREAM}?{signed}&offset=wrong").status == 400
        assert server.request("GET", f"/nowhere?{signed}").status == 404
        assert server.request("GET", f"/v1/stream/b?{signed}").status == 401
        server.await_true(lambda: access_log.exists() and access_log.read_text().count("REDACTED") == 4)
        assert server.log.count("REDACTED") >= 4
        assert secret not in server.log
        assert secret not in access_log.read_text()
