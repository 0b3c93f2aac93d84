"""The TLS context of a worker, made of the certificate that the master has read, and renewed while the worker runs."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final

from gunicorn import sock

from durable_streams.serving.served import SERVING, Served

VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

_newest: ssl.SSLContext | None = None


def ssl_context(cfg: Any, build: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """gunicorn's hook: its own context (``build``), with the certificate that was accepted.

    A certificate of gunicorn's own option `--certfile` is left to gunicorn.
    """
    global _newest
    served = SERVING.served
    if served is None or served.tls is None or cfg.certfile != str(served.config.tls.cert_path):
        return build()
    named = cfg.certfile, cfg.keyfile
    with served.tls.as_files() as files:
        _name_files(cfg, files)
        try:
            context = build()
        finally:
            _name_files(cfg, named)
    _restrict(context, served)
    # Called in each handshake, also without a server name.
    context.sni_callback = _use_newest
    _newest = context
    return context


def _restrict(context: ssl.SSLContext, served: Served) -> None:
    """What the settings say of versions and of clients' certificates."""
    context.minimum_version = VERSIONS[served.config.tls.min_version]
    authorities = served.tls.client_authorities if served.tls is not None else None
    if authorities is not None:
        context.load_verify_locations(cadata=authorities)
        context.verify_mode = ssl.CERT_REQUIRED


def renew(cfg: Any) -> None:
    """Handshakes that begin from now on use the certificate that was accepted last."""
    if _newest is not None:
        sock.ssl_context(cfg)


def _name_files(cfg: Any, files: tuple[str, str]) -> None:
    cfg.set("certfile", files[0])
    cfg.set("keyfile", files[1])


def _use_newest(client: Any, name: str | None, context: ssl.SSLContext) -> None:
    if _newest is not None and client.context is not _newest:
        client.context = _newest
