"""Configuration: what can be set, where it is read from, and how a mistake is reported.

The sections are frozen models whose fields are the declarations; `Config.load` lays the files and the
environment on top of the built-in defaults. Of the rest of the server it imports the table of storage modes alone.
"""

from durable_streams.config.configuration import SETTINGS, Config, Setting
from durable_streams.config.errors import ConfigError
from durable_streams.config.loading import ConfigLoadOptions
from durable_streams.config.log_filter import LogFilter
from durable_streams.config.settings import (
    HttpSettings,
    LimitSettings,
    LogSettings,
    ServerSettings,
    StorageSettings,
    TlsSettings,
)

__all__ = [
    "SETTINGS",
    "Config",
    "ConfigError",
    "ConfigLoadOptions",
    "HttpSettings",
    "LimitSettings",
    "LogFilter",
    "LogSettings",
    "ServerSettings",
    "Setting",
    "StorageSettings",
    "TlsSettings",
]
