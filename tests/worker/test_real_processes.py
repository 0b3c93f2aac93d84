"""Real gunicorn processes: what the system, signals and gunicorn's arbiter have a part in."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gevent
import gevent.ssl
import pytest

from tests.servers import TlsFiles
from tests.worker.gunicorn_process import (
    END_S_MAX,
    STREAM_WORKER,
    Gunicorn,
    ask,
    gunicorn,
    receive_all,
    with_tls,
)
from tests.worker.in_process import answers_in
from tests.worker.request_samples import SAMPLES, Sample, get, post

pytestmark = pytest.mark.server

LIVE = 200
IDLE = 200
BUSY = 40


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with gunicorn(tmp_path_factory.mktemp("stream")) as server:
        yield server


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with gunicorn(tmp_path_factory.mktemp("stock"), "--http-parser", "python", worker="gevent") as server:
        yield server


def statuses(server: Gunicorn, sample: Sample) -> tuple[int, ...]:
    with server.connect() as sock:
        sock.sendall(sample.sent)
        sock.shutdown(socket.SHUT_WR)
        seen = b""
        try:
            while data := sock.recv(65_536):
                seen += data
        except ConnectionResetError:
            assert server.log.count("Booting worker") == 1
    return tuple(answer.status for answer in answers_in(seen, (0,) if sample.sent[:4] == b"HEAD" else ()))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_the_table_holds_for_real_processes(sample: Sample, running: Gunicorn, stock: Gunicorn) -> None:
    assert statuses(running, sample) == sample.statuses
    if sample.statuses:
        # gunicorn closes without a look at what the client still sends, so its last words may be lost.
        expected = sample.by_gunicorn or sample.statuses
        assert statuses(stock, sample) in (expected, expected[:-1])


def test_the_environ_of_a_plain_request_is_that_of_gunicorn(running: Gunicorn, stock: Gunicorn) -> None:
    request = post(b"Content-Type: a/b\r\nX-A: b\r\nContent-Length: 3\r\n", b"abc")
    environs = []
    for server in (running, stock):
        with server.connect() as sock:
            environs.append(answered_environ(ask(sock, request).body, server, sock.getsockname()[1]))
    assert environs[0] == environs[1]


def answered_environ(body: bytes, server: Gunicorn, client_port: int) -> bytes:
    return body.replace(b"%d" % server.port, b"PORT").replace(b"%d" % client_port, b"CLIENT")


def test_a_client_gets_the_refusal_of_a_body_that_it_sends_to_its_end(running: Gunicorn) -> None:
    with running.connect() as sock:
        body = b"x" * 50_000_000
        sock.sendall(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        (answer,) = answers_in(receive_all(sock))
    assert (answer.status, answer.body) == (413, b"refused")


def test_over_tls_a_client_gets_the_refusal_too(tmp_path: Path, tls_files: TlsFiles) -> None:
    options = ["--certfile", str(tls_files.certificate), "--keyfile", str(tls_files.key)]
    body = b"x" * 10_000_000
    with gunicorn(tmp_path, *options) as server, with_tls(server.connect(), tls_files.authority) as sock:
        sock.sendall(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        (answer,) = answers_in(receive_all(sock))
        assert (answer.status, answer.fields["connection"]) == (413, "close")
        assert server.stop() == 0


def test_a_stop_ends_what_waits_answers_what_runs_and_resets_nobody(tmp_path: Path) -> None:
    with gunicorn(tmp_path) as server:
        live = [opened(server, get(b"/events"), b"begun") for _ in range(LIVE)]
        polls = [server.connect() for _ in range(LIVE)]
        idle = [opened(server, get(b"/idle"), b"HTTP_HOST") for _ in range(IDLE)]
        for sock in polls:
            sock.sendall(get(b"/wait"))
        uploading = server.connect()
        uploading.sendall(post(b"Content-Length: 6\r\n", b"abc"))
        busy = [gevent.spawn(ask_until_told_to_stop, server.connect()) for _ in range(BUSY)]
        with server.connect() as sock:
            # What came before has been begun.
            assert ask(sock, get()).status == 200
        server.process.send_signal(signal.SIGTERM)
        for sock in live:
            assert receive_all(sock).endswith(b"data: ended\n\n\r\n0\r\n\r\n")
        uploading.sendall(b"def")
        (uploaded,) = answers_in(receive_all(uploading))
        assert (uploaded.status, uploaded.fields["connection"]) == (200, "close")
        for sock in polls:
            (answer,) = answers_in(receive_all(sock))
            assert (answer.status, answer.fields["connection"]) == (204, "close")
        for sock in idle:
            assert receive_all(sock) == b""
        gevent.joinall(busy, timeout=END_S_MAX, raise_error=True)
        assert all(greenlet.value > 0 for greenlet in busy)
        assert server.process.wait(END_S_MAX) == 0
        assert server.notes == ["stopping", "stopped"]
        assert "graceful timeout" not in server.log
        for sock in [*live, *polls, *idle, uploading]:
            sock.close()


def opened(server: Gunicorn, request: bytes, mark: bytes) -> Any:
    """A connection whose answer to ``request`` has come as far as ``mark``."""
    sock = server.connect()
    sock.sendall(request)
    seen = b""
    while mark not in seen:
        seen += sock.recv(65_536)
    return sock


def ask_until_told_to_stop(sock: Any) -> int:
    """How many requests were answered before one said that it is the last; every other end is an error."""
    count = 0
    with sock:
        while True:
            answer = ask(sock, get(b"/busy"))
            assert answer.status == 200
            count += 1
            if answer.fields["connection"] == "close":
                assert receive_all(sock) == b""
                return count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_ends_with_the_same_hooks_and_waits_for_nobody(number: int, tmp_path: Path) -> None:
    with gunicorn(tmp_path) as server, server.connect() as uploading:
        uploading.sendall(post(b"Content-Length: 6\r\n", b"abc"))
        with opened(server, get(b"/events"), b"begun") as live:
            assert server.stop(number) == 0
            assert receive_all(live).endswith(b"0\r\n\r\n")
        assert server.notes == ["stopping", "stopped"]


def test_a_reload_answers_everybody_and_then_serves_with_a_new_worker(tmp_path: Path) -> None:
    with gunicorn(tmp_path) as server:
        with server.connect() as sock:
            before = ask(sock, get(b"/pid")).body
        busy = [gevent.spawn(ask_until_told_to_stop, server.connect()) for _ in range(BUSY)]
        with opened(server, get(b"/events"), b"begun") as live:
            server.process.send_signal(signal.SIGHUP)
            assert receive_all(live).endswith(b"0\r\n\r\n")
        gevent.joinall(busy, timeout=END_S_MAX, raise_error=True)
        with server.connect() as sock:
            assert ask(sock, get(b"/pid")).body != before
        assert server.stop() == 0


def test_max_requests_replaces_the_worker_and_loses_no_request(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "--max-requests", "50") as server:
        busy = [gevent.spawn(ask_until_told_to_stop, server.connect()) for _ in range(10)]
        gevent.joinall(busy, timeout=END_S_MAX, raise_error=True)
        assert sum(greenlet.value for greenlet in busy) >= 50
        with server.connect() as sock:
            assert ask(sock, get()).status == 200
        assert server.stop() == 0


def test_two_workers_share_the_listener(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "--workers", "2") as server:
        for _ in range(20):
            with server.connect() as sock:
                assert ask(sock, get()).status == 200
        assert server.stop() == 0


def test_the_access_log_is_kept_and_its_price_is_told(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "--access-logfile", "-") as server:
        with server.connect() as sock:
            assert [ask(sock, get(b"/logged")).status for _ in range(3)] == [200, 200, 200]
        assert server.stop() == 0
        assert server.log.count('"GET /logged HTTP/1.1" 200') == 3
        assert "every request takes the slow path" in server.log


def test_idle_connections_end_in_time(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "--keep-alive", "1") as server:
        with opened(server, get(), b"HTTP_HOST") as used, server.connect() as never_used:
            assert receive_all(used) == b""
            assert receive_all(never_used) == b""
        assert server.stop() == 0


def test_without_keep_alive_every_answer_is_the_last(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "--keep-alive", "0") as server:
        for request in (get(), get(fields=b"X_Unusual: 1\r\n")):
            with server.connect() as sock:
                assert ask(sock, request).fields["connection"] == "close"
                assert receive_all(sock) == b""
        assert server.stop() == 0


@pytest.mark.parametrize("worker", [STREAM_WORKER, "gevent"])
def test_tls_is_served_and_stops_as_well(worker: str, tmp_path: Path, tls_files: TlsFiles) -> None:
    options = ["--certfile", str(tls_files.certificate), "--keyfile", str(tls_files.key)]
    if worker == "gevent":
        options += ["--graceful-timeout", "1"]
    with (
        gunicorn(tmp_path, *options, worker=worker) as server,
        with_tls(server.connect(), tls_files.authority) as sock,
        server.connect() as silent,
    ):
        for body in (b"abc", b"defg"):
            answer = ask(sock, post(b"Content-Length: %d\r\n" % len(body), body))
            assert answer.status == 200
            assert answer.body.endswith(b'"%b"]' % body)
            assert b'"wsgi.url_scheme": "https"' in answer.body
        silent.sendall(b"GET / HTTP/1.1\r\n")
        assert server.stop() == 0


def test_the_proxy_protocol_is_left_to_gunicorn(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "--proxy-protocol", "v1") as server:
        with server.connect() as sock:
            answer = ask(sock, b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n" + get())
            assert b'"REMOTE_ADDR": "192.0.2.1"' in answer.body
        assert server.stop() == 0


def ask_through(path: Path, request: bytes) -> dict[str, Any]:
    """The environ with which a request through a Unix-domain socket is answered."""
    with gevent.socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        answer = ask(sock, request)
    environ: dict[str, Any] = json.loads(answer.body)[0]
    return environ


def test_a_unix_socket_is_served_with_the_environ_of_gunicorn() -> None:
    """As nginx in front asks, and curl: the peer has no address, is trusted, and Host names the server."""
    proxied = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
    requests = [
        b"GET /a HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
        post(b"Content-Type: a/b\r\nContent-Length: 3\r\n" + proxied, b"abc"),
    ]
    environs = []
    for worker in (STREAM_WORKER, "gevent"):
        # The address of a Unix socket has room for about a hundred bytes; pytest's own folders may be longer.
        with TemporaryDirectory(prefix="ds-") as folder:
            path = Path(folder, "socket")
            with gunicorn(Path(folder), "--bind", f"unix:{path}", worker=worker) as server:
                environs.append([ask_through(path, request) for request in requests])
                assert server.stop() == 0
    assert environs[0] == environs[1]
    direct, behind_proxy = environs[0]
    assert (direct["REMOTE_ADDR"], direct["SERVER_NAME"], direct["SERVER_PORT"]) == ("", "localhost", "80")
    assert (behind_proxy["wsgi.url_scheme"], behind_proxy["HTTP_X_FORWARDED_FOR"]) == ("https", "203.0.113.9")
    assert behind_proxy["SERVER_PORT"] == "443"
