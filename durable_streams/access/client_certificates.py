"""Mutual TLS: the name in a client's certificate is who asks. OpenSSL has checked the certificate in the handshake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from durable_streams.eventloop.live_socket import SERVER_SOCKET
from durable_streams.exchanges import Exchange


def name_client(exchange: Exchange) -> None:
    """A gate that refuses nothing: sets the principal; a token that comes too names another one."""
    socket = exchange.environ.get(SERVER_SOCKET)
    read_certificate = getattr(socket, "getpeercert", None)
    if read_certificate is not None:
        name = name_in(read_certificate() or {})
        if name is not None:
            exchange.principal = name


def name_in(certificate: Mapping[str, Any]) -> str | None:
    """The common name of the subject, or else its first alternative name; in the form of ``getpeercert``."""
    for parts in certificate.get("subject", ()):
        for field, value in parts:
            if field == "commonName":
                return str(value)
    return next((str(value) for _, value in certificate.get("subjectAltName", ())), None)
