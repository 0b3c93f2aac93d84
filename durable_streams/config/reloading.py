"""Which settings a running server takes over when it reads its configuration again, and which need a restart."""

from __future__ import annotations

from typing import Final

from durable_streams.config.configuration import SETTINGS, Config

RELOADABLE: Final = frozenset(
    {
        "server.keepalive_secs",
        "server.long_poll_timeout_secs",
        "server.sse_reconnect_interval_secs",
        "server.sse_heartbeat_secs",
        "server.body_timeout_secs",
        "server.write_timeout_secs",
        "server.shutdown_grace_secs",
        "http.cors_origins",
        "http.cors_allowed_headers",
        "http.stream_base_path",
        "http.cache_visibility",
        "http.compression",
        "http.compress_sse",
        "http.request_ids",
        "limits.max_request_body_bytes",
        "limits.max_read_bytes",
        "limits.max_compressions",
        "limits.max_compressed_cache_bytes",
        "limits.max_stream_name_bytes",
        "limits.max_stream_name_segments",
        "tls.cert_path",
        "tls.key_path",
        "auth.cache_control",
        "log.rust_log",
        "log.format",
    }
)
"""What decides how requests are answered. A setting that is not named here needs a restart: the storage, the
listener and the limits of the store are made once."""


def changed_keys(before: Config, after: Config) -> list[str]:
    """The settings whose values differ, in the order of their declaration."""
    return [key for key in SETTINGS if before.value_of(key) != after.value_of(key)]


def restart_keys(before: Config, after: Config) -> list[str]:
    """Those of them that only a restart can change. Whether https is spoken at all is one of them."""
    toggles_tls = before.tls.enabled != after.tls.enabled
    return [
        key
        for key in changed_keys(before, after)
        if key not in RELOADABLE or (toggles_tls and key.startswith("tls."))
    ]
