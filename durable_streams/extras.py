"""The optional parts of the package: which packages each needs, and the error that names what to install.

Nothing is imported to find out: gevent must patch the standard library before some of these packages are loaded.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

DISTRIBUTION: Final = "durable-streams-server"
EXTRAS: Final = {
    "server": ("gunicorn", "gunicorn_h1c", "cryptography"),
    "acid": ("ZODB", "persistent", "transaction"),
    "postgres": ("psycopg",),
    "subscriptions": ("cryptography", "urllib3"),
    "metrics": ("prometheus_client",),
    "jwt": ("cryptography", "jwt", "urllib3"),
    "rates": ("limits",),
    "otel": ("opentelemetry.exporter.otlp.proto.http", "opentelemetry.sdk"),
}
"""Name of the extra -> the packages, by their import names, that it installs."""


class MissingExtra(Exception):
    """Something needs packages that are not installed; the message is one line that says what to install."""

    def __init__(self, purpose: str, extra: str, package: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed: pip install '{DISTRIBUTION}[{extra}]'"
        )
        self.extra = extra
        self.package = package


def require_extra(extra: str, purpose: str) -> None:
    """Raise MissingExtra unless every package of ``extra`` can be imported; ``purpose`` begins the message."""
    for package in EXTRAS[extra]:
        if not _is_installed(package):
            raise MissingExtra(purpose, extra, package)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        # A package that it is a part of.
        return False
