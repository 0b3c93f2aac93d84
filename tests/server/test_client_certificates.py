"""Mutual TLS at the real server: who has no certificate does not get in, and who has one is known by its name."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.servers import TlsFiles, running_server

pytestmark = pytest.mark.server

TEXT = {"Content-Type": "text/plain"}
ONE_A_DAY = '[{principal = "ann", creates_per_day = 1}]'


def issue(folder: Path, days: int = 3650) -> TlsFiles:
    authority, clients = trustme.CA(), trustme.CA()
    end = datetime.now(UTC) + timedelta(days=days, hours=1)
    issued = authority.issue_cert("127.0.0.1", not_after=end)
    files = TlsFiles(folder / "cert.pem", folder / "key.pem", folder / "authority.pem", folder / "client.pem")
    assert files.client is not None
    issued.private_key_pem.write_to_path(files.key)
    issued.cert_chain_pems[0].write_to_path(files.certificate)
    authority.cert_pem.write_to_path(files.authority)
    clients.issue_cert("client.example", common_name="ann").private_key_and_cert_chain_pem.write_to_path(
        files.client
    )
    clients.cert_pem.write_to_path(folder / "clients.pem")
    return files


def greeting(port: int, files: TlsFiles, *, shows: bool, newest: ssl.TLSVersion) -> bytes:
    """The beginning of an answer; raises ssl.SSLError or ConnectionError where the server lets nobody in."""
    context = ssl.create_default_context(cafile=str(files.authority))
    context.maximum_version = newest
    if shows:
        assert files.client is not None
        context.load_cert_chain(files.client)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=180) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        # With TLS 1.3 a client learns of a refusal when it reads.
        found = secure.recv(8)
        if not found:
            raise ConnectionError("closed without an answer")
        return found


@pytest.mark.parametrize("worker_class", ["stream", "gevent"])
def test_a_client_needs_a_certificate_and_is_known_by_it(worker_class: str, tmp_path: Path) -> None:
    files = issue(tmp_path)
    settings = {
        "DS_SERVER__WORKER_CLASS": worker_class,
        "DS_TLS__CLIENT_CA_PATH": str(tmp_path / "clients.pem"),
        "DS_QUOTAS__BY_PRINCIPAL": ONE_A_DAY,
    }
    with running_server(tmp_path, settings, files) as server:
        assert server.request("PUT", "/v1/stream/a", b"x", TEXT).status == 201
        assert server.request("PUT", "/v1/stream/b", b"x", TEXT).status == 429, "ann has made one"
        assert greeting(server.port, files, shows=True, newest=ssl.TLSVersion.TLSv1_2) == b"HTTP/1.1"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            greeting(server.port, files, shows=False, newest=ssl.TLSVersion.TLSv1_3)
        read = server.request("GET", "/v1/stream/a?offset=-1")
        assert read.headers["Cache-Control"].startswith("private")


def test_older_versions_are_refused_and_a_near_end_is_warned_of(tmp_path: Path) -> None:
    files = issue(tmp_path, days=10)
    with running_server(tmp_path, {"DS_TLS__MIN_VERSION": "1.3"}, files) as server:
        assert greeting(server.port, files, shows=False, newest=ssl.TLSVersion.TLSv1_3) == b"HTTP/1.1"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            greeting(server.port, files, shows=False, newest=ssl.TLSVersion.TLSv1_2)
        server.await_log(r"the certificate \S+ expires in 10 days: renew it")
