"""A server for the Durable Streams protocol. The public names are loaded when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable_streams.access.signed_urls import UrlSigner
    from durable_streams.app import create_app
    from durable_streams.config import Config, ConfigLoadOptions
    from durable_streams.embedding import Streams
    from durable_streams.protocol.errors import Forbidden, ProtocolError, TooManyRequests, Unauthorized
    from durable_streams.storage.contract import Storage
    from durable_streams.storage.files import FileStorage
    from durable_streams.storage.memory import InMemoryStorage
    from durable_streams.storage.zodb import AcidStorage
    from durable_streams.web.blueprint import build_blueprint
    from durable_streams.web.exchange import Exchange, Gate, Observer

__version__ = "0.1.0"

__all__ = [
    "AcidStorage",
    "Config",
    "ConfigLoadOptions",
    "Exchange",
    "FileStorage",
    "Forbidden",
    "Gate",
    "InMemoryStorage",
    "Observer",
    "ProtocolError",
    "Storage",
    "Streams",
    "TooManyRequests",
    "Unauthorized",
    "UrlSigner",
    "build_blueprint",
    "create_app",
]

_HOMES = {
    "AcidStorage": "durable_streams.storage.zodb",
    "Config": "durable_streams.config",
    "ConfigLoadOptions": "durable_streams.config",
    "Exchange": "durable_streams.web.exchange",
    "FileStorage": "durable_streams.storage.files",
    "Forbidden": "durable_streams.protocol.errors",
    "Gate": "durable_streams.web.exchange",
    "InMemoryStorage": "durable_streams.storage.memory",
    "Observer": "durable_streams.web.exchange",
    "ProtocolError": "durable_streams.protocol.errors",
    "Storage": "durable_streams.storage.contract",
    "Streams": "durable_streams.embedding",
    "TooManyRequests": "durable_streams.protocol.errors",
    "Unauthorized": "durable_streams.protocol.errors",
    "UrlSigner": "durable_streams.access.signed_urls",
    "build_blueprint": "durable_streams.web.blueprint",
    "create_app": "durable_streams.app",
}


_EXTRAS = {"AcidStorage": "acid"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'durable_streams' has no attribute {name!r}")
    if name in _EXTRAS:
        from durable_streams.extras import require_extra

        require_extra(_EXTRAS[name], name)
    return getattr(import_module(_HOMES[name]), name)
