"""SIGHUP: a running worker takes over what is right, and goes on as it was when anything is wrong.

And what a worker that is restarted for another reason serves: what was accepted, not what the files hold by then.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trustme

from tests.servers import GUNICORN, ROOT, Server, TlsFiles, running_server

pytestmark = pytest.mark.server

SCRIPT = (sys.executable, "-m", "durable_streams")
WORKER_CLASSES = ("stream", "gevent")
both_workers = pytest.mark.parametrize("worker_class", WORKER_CLASSES)
BEFORE = '[http]\nstream_base_path = "/before"\n'
AFTER = '[http]\nstream_base_path = "/after"\n'


class Reloaded:
    """A server with a file of its own, which can be changed and read again."""

    def __init__(self, server: Server, file: Path) -> None:
        self.server = server
        self.file = file

    def reload(self, text: str, expected: str) -> str:
        """Write the file, ask for a reload, and wait for the log; returns what was logged since."""
        already = len(self.server.log)
        self.file.write_text(text)
        self.server.process.send_signal(signal.SIGHUP)
        self.server.await_true(lambda: re.search(expected, self.server.log[already:]))
        return self.server.log[already:]

    def await_status(self, path: str, status: int) -> None:
        """The worker learns of a reload a moment after the master has logged it."""
        self.server.await_true(lambda: self.server.request("GET", path).status == status)

    @property
    def worker_pids(self) -> list[int]:
        pid = self.server.process.pid
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def reloadable(
    folder: Path,
    settings: dict[str, str] | None = None,
    tls: TlsFiles | None = None,
    command: tuple[str, ...] = GUNICORN,
) -> Iterator[Reloaded]:
    file = folder / "mine.toml"
    file.write_text(BEFORE)
    with running_server(folder, {"DS_CONFIG": str(file), **(settings or {})}, tls, command) as server:
        yield Reloaded(server, file)


@pytest.mark.parametrize("command", [GUNICORN, SCRIPT], ids=["gunicorn", "script"])
@both_workers
def test_a_reload_keeps_the_worker_and_its_memory(
    command: tuple[str, ...], worker_class: str, tmp_path: Path
) -> None:
    settings = {"DS_SERVER__WORKER_CLASS": worker_class}
    with reloadable(tmp_path, settings, command=command) as running:
        server, workers = running.server, running.worker_pids
        assert server.request("PUT", "/before/a", b"kept", {"Content-Type": "text/plain"}).status == 201
        running.reload(AFTER + "[limits]\nmax_read_bytes = 2\n", "reloaded: .*http.stream_base_path")
        running.await_status("/after/a", 200)
        assert server.request("GET", "/after/a").body == b"ke"
        assert server.request("GET", "/before/a").status == 404
        assert running.worker_pids == workers
        assert server.terminate() == 0


# the file, what its line says
REFUSED = [
    ('[http]\nstream_base_path = "no path"\n', r"http\.stream_base_path = 'no path'"),
    ("[http\n", "is not valid TOML"),
    (AFTER + "[server]\nkeepalive_secs = -1\n", r"server\.keepalive_secs = -1"),
    (AFTER + "[server]\nbacklog = 7\n", r"a restart is needed to change server\.backlog"),
    (AFTER + '[storage]\nmode = "file-fast"\n', r"a restart is needed to change storage\.mode"),
    (AFTER + '[tls]\ncert_path = "no.pem"\nkey_path = "no.pem"\n', "TLS file not found"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=lambda value: str(value)[-20:])
def test_a_configuration_that_is_refused_changes_nothing(text: str, words: str, tmp_path: Path) -> None:
    with reloadable(tmp_path, {"RUST_LOG": "info,durable_streams.request=off"}) as running:
        server, workers = running.server, running.worker_pids
        server.request("PUT", "/before/a", b"kept", {"Content-Type": "text/plain"})
        logged = running.reload(text, words)
        (line,) = logged.splitlines()
        assert "ERROR durable_streams.serving: the configuration is kept as it was: " in line
        assert server.request("GET", "/before/a").body == b"kept"
        assert running.worker_pids == workers
        # And the next one is taken.
        running.reload(AFTER, "reloaded: http.stream_base_path")
        running.await_status("/after/a", 200)


def test_what_the_parser_refuses_follows_the_origins(tmp_path: Path) -> None:
    with reloadable(tmp_path) as running:
        too_long = {"X-A": "a" * 70_000}
        refusal = running.server.request("GET", "/before/a", headers=too_long)
        assert (refusal.status, refusal.headers["Access-Control-Allow-Origin"]) == (431, "*")
        running.reload(
            AFTER + 'cors_origins = ["https://app.example"]\n', "reloaded: .*http.stream_base_path"
        )
        # Found when the worker has taken it over.
        running.await_status("/before/a", 404)
        running.server.request("PUT", "/after/a")
        running.await_status("/after/a", 200)
        refusal = running.server.request("GET", "/after/a", headers=too_long)
        assert refusal.headers["Access-Control-Allow-Origin"] == "https://app.example"


def test_a_reload_without_a_change_says_so(tmp_path: Path) -> None:
    with reloadable(tmp_path) as running:
        workers = running.worker_pids
        running.reload(BEFORE, "reloaded: nothing has changed")
        assert running.worker_pids == workers


def test_the_form_of_the_log_changes_in_both_processes(tmp_path: Path) -> None:
    with reloadable(tmp_path) as running:
        running.reload(BEFORE + "[log]\nformat = 'json'\n", r'"message": "reloaded: log.format"')
        running.server.await_true(
            lambda: running.server.request("GET", "/healthz") and '"health"' in running.server.log
        )


def test_live_reads_outlive_a_reload(tmp_path: Path) -> None:
    with reloadable(tmp_path) as running:
        server = running.server
        tail = server.request("PUT", "/before/a", headers={"Content-Type": "text/plain"}).headers
        with socket.create_connection(("127.0.0.1", server.port), timeout=180) as reader:
            offset = tail["Stream-Next-Offset"].encode()
            reader.sendall(b"GET /before/a?live=sse&offset=%b HTTP/1.1\r\nHost: x\r\n\r\n" % offset)
            assert b"200" in reader.recv(100)
            running.reload(AFTER, "reloaded:")
            running.await_status("/after/a", 200)
            server.request("POST", "/after/a", b"still here", {"Content-Type": "text/plain"})
            seen = b""
            while b"still here" not in seen:
                seen += reader.recv(4096)


def write_pair(authority: trustme.CA, folder: Path) -> TlsFiles:
    """A new certificate of the authority, over what the files held."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    files = TlsFiles(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(files.authority)
    issued.private_key_pem.write_to_path(files.key)
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return files


def certificate_of(server: Server) -> str:
    """The one that a new connection is shown."""
    return ssl.get_server_certificate(("127.0.0.1", server.port), timeout=180)


@both_workers
def test_a_renewed_certificate_is_shown_without_a_restart(worker_class: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    files = write_pair(authority, tmp_path)
    with reloadable(tmp_path, {"DS_SERVER__WORKER_CLASS": worker_class}, files) as running:
        server, workers, first = running.server, running.worker_pids, certificate_of(running.server)
        server.request("PUT", "/before/a", b"kept", {"Content-Type": "text/plain"})
        write_pair(authority, tmp_path)
        assert certificate_of(server) == first
        running.reload(BEFORE, "reloaded: the certificate")
        server.await_true(lambda: certificate_of(server) != first)
        assert certificate_of(server).strip() in files.certificate.read_text()
        assert server.request("GET", "/before/a").body == b"kept"
        assert running.worker_pids == workers


@both_workers
def test_a_broken_certificate_stops_neither_a_reload_nor_a_restarted_worker(
    worker_class: str, tmp_path: Path
) -> None:
    files = write_pair(trustme.CA(), tmp_path)
    settings = {"DS_SERVER__WORKER_CLASS": worker_class, "DS_STORAGE__MODE": "file-durable"}
    with reloadable(tmp_path, settings, files) as running:
        server, first = running.server, certificate_of(running.server)
        server.request("PUT", "/before/a", b"kept", {"Content-Type": "text/plain"})
        files.certificate.write_bytes(files.certificate.read_bytes()[:100])
        logged = running.reload(AFTER, "the configuration is kept as it was")
        assert f"tls.cert_path = '{files.certificate}': holds no certificate in PEM form" in " ".join(
            logged.split()
        )
        (worker,) = running.worker_pids
        os.kill(worker, signal.SIGKILL)
        server.await_true(lambda: server.log.count("listening on") == 2)
        assert certificate_of(server) == first
        assert server.request("GET", "/before/a").body == b"kept"


def test_a_worker_restarted_after_a_reload_serves_what_was_reloaded(tmp_path: Path) -> None:
    with reloadable(tmp_path, {"DS_STORAGE__MODE": "file-durable"}) as running:
        running.reload(AFTER, "reloaded:")
        running.file.write_text("broken")
        (worker,) = running.worker_pids
        os.kill(worker, signal.SIGKILL)
        running.server.await_true(lambda: running.server.log.count("listening on") == 2)
        assert running.server.request("PUT", "/after/a").status == 201


def test_a_reload_turns_keep_alive_on_and_off(tmp_path: Path) -> None:
    with reloadable(tmp_path) as running:
        server = running.server
        assert server.request("GET", "/healthz").headers["Connection"] == "keep-alive"
        for keepalive, kept in ((0, "close"), (15, "keep-alive")):
            running.reload(
                BEFORE + f"[server]\nkeepalive_secs = {keepalive}\n", "reloaded: server.keepalive_secs"
            )
            server.await_true(partial(answers, server, kept))


def answers(server: Server, connection: str) -> bool:
    return server.request("GET", "/healthz").headers["Connection"] == connection


A_WORKER_BEGINS = """
import os, signal
from types import SimpleNamespace
from durable_streams.serving import worker_hooks
worker_hooks.hold_reloads(None, None)
signal.signal(signal.SIGUSR1, signal.SIG_DFL)
os.kill(os.getpid(), signal.SIGUSR1)
signal.signal(signal.SIGUSR1, lambda number, frame: print("logs opened again"))
worker_hooks._reload_on_sigusr1(SimpleNamespace())
print("serves")
"""


def test_a_reload_while_a_worker_begins_neither_ends_it_nor_is_lost() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", A_WORKER_BEGINS], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert (ended.returncode, ended.stdout) == (0, "logs opened again\nserves\n"), ended.stderr


def test_a_second_master_is_refused_in_one_line(tmp_path: Path) -> None:
    with reloadable(tmp_path) as running:
        running.server.process.send_signal(signal.SIGUSR2)
        running.server.await_log("SIGUSR2 is ignored: storage mode memory has one owner")
        # A master of its own would be a child beside the worker.
        assert len(running.worker_pids) == 1
