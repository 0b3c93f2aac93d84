"""Every name by which a setting goes, in files and in the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from durable_streams.config import SETTINGS, Config, ConfigLoadOptions

# The names that users of the other server know, each with a text and the value that it means.
PROMISED_VARIABLES = [
    ("DS_SERVER__PORT", "5000", "server.port", 5000),
    ("DS_SERVER__LONG_POLL_TIMEOUT_SECS", "2", "server.long_poll_timeout_secs", 2.0),
    ("DS_SERVER__LONG_POLL_TIMEOUT_SECS", "0.5", "server.long_poll_timeout_secs", 0.5),
    ("DS_SERVER__SSE_RECONNECT_INTERVAL_SECS", "0", "server.sse_reconnect_interval_secs", 0.0),
    (
        "DS_HTTP__CORS_ORIGINS",
        "https://a.example, http://b.example:81",
        "http.cors_origins",
        ("https://a.example", "http://b.example:81"),
    ),
    ("DS_HTTP__CORS_ORIGINS", "*", "http.cors_origins", ("*",)),
    ("DS_HTTP__CORS_ORIGINS", "", "http.cors_origins", ()),
    ("DS_HTTP__STREAM_BASE_PATH", "/streams", "http.stream_base_path", ("/streams",)),
    ("DS_HTTP__STREAM_BASE_PATH", "/", "http.stream_base_path", ("/",)),
    (
        "DS_HTTP__STREAM_BASE_PATH",
        "/v1/stream, /v1/streams",
        "http.stream_base_path",
        ("/v1/stream", "/v1/streams"),
    ),
    ("DS_HTTP__CORS_ALLOWED_HEADERS", "X-A, X-B", "http.cors_allowed_headers", ("X-A", "X-B")),
    ("DS_LIMITS__MAX_MEMORY_BYTES", "1000", "limits.max_memory_bytes", 1000),
    ("DS_LIMITS__MAX_STREAM_BYTES", "0", "limits.max_stream_bytes", 0),
    ("DS_STORAGE__MODE", "acid", "storage.mode", "acid"),
    ("DS_STORAGE__MODE", "file", "storage.mode", "file-durable"),
    ("DS_STORAGE__DATA_DIR", "/var/streams", "storage.data_dir", Path("/var/streams")),
    ("DS_STORAGE__ACID_SHARD_COUNT", "16", "storage.acid_shard_count", 16),
    ("DS_STORAGE__ACID_BACKEND", "in-memory", "storage.acid_backend", "in-memory"),
    ("DS_STORAGE__ACID_BACKEND", "inmemory", "storage.acid_backend", "in-memory"),
    ("DS_LOG__RUST_LOG", "debug", "log.rust_log", "debug"),
    ("RUST_LOG", "warn,durable_streams=debug", "log.rust_log", "warn,durable_streams=debug"),
    ("DS_OBSERVABILITY__RUST_LOG", "debug", "log.rust_log", "debug"),
    ("DS_SERVER__BIND_ADDRESS", "127.0.0.1:81", "server.port", 81),
    ("DS_SERVER__BIND_ADDRESS", "[::1]:81", "server.host", "::1"),
    ("DS_TRANSPORT__CONNECTION__LONG_POLL_TIMEOUT_SECS", "3", "server.long_poll_timeout_secs", 3.0),
    ("DS_TRANSPORT__CONNECTION__SSE_RECONNECT_INTERVAL_SECS", "3", "server.sse_reconnect_interval_secs", 3.0),
    ("DS_LIMITS__MAX_STORAGE_JOBS", "64", "limits.max_pending_writes", 64),
    ("DS_HTTP__COMPRESSION", "off", "http.compression", False),
    ("DS_HTTP__COMPRESSION", "TRUE", "http.compression", True),
]


def from_environment(**environ: str) -> Config:
    return Config.load(ConfigLoadOptions(environ=environ, root="/nonexistent"))


@pytest.mark.parametrize(("name", "text", "key", "value"), PROMISED_VARIABLES)
def test_a_promised_variable_sets_its_setting(name: str, text: str, key: str, value: Any) -> None:
    config = from_environment(**{name: text})
    assert config.value_of(key) == value
    assert type(config.value_of(key)) is type(value) or isinstance(value, Path)
    assert config.source_of(key) == f"environment variable {name}"


def test_certificate_and_key_go_by_both_of_their_names() -> None:
    config = from_environment(DS_TLS__CERT_PATH="c.pem", DS_TRANSPORT__TLS__KEY_PATH="k.pem")
    assert (config.tls.cert_path, config.tls.key_path) == (Path("c.pem"), Path("k.pem"))
    assert config.tls.enabled


def test_files_take_the_other_names_too(tmp_path: Path) -> None:
    file = tmp_path / "rust.toml"
    file.write_text(
        "[server]\nbind_address = '127.0.0.1:81'\n[transport.connection]\nlong_poll_timeout_secs = 3\n"
        "[transport.tls]\ncert_path = 'c.pem'\nkey_path = 'k.pem'\n[observability]\nrust_log = 'debug'\n"
    )
    config = Config.load(ConfigLoadOptions(config_path=file, environ={}, root=tmp_path))
    assert (config.server.host, config.server.port) == ("127.0.0.1", 81)
    assert config.server.long_poll_timeout_secs == 3.0
    assert config.tls.cert_path == Path("c.pem")
    assert config.log.rust_log == "debug"


def test_json_goes_by_its_short_name_too(tmp_path: Path) -> None:
    assert from_environment(DS_JSON__MESSAGE_OFFSETS="true").http.message_offsets
    file = tmp_path / "json.toml"
    file.write_text("[json]\nmessage_offsets = true\n")
    options = ConfigLoadOptions(config_path=file, environ={}, root=tmp_path)
    assert Config.load(options).http.message_offsets


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_has_a_variable_by_rule(key: str) -> None:
    declared = SETTINGS[key]
    section, name = key.split(".")
    assert declared.env_name == f"DS_{section.upper()}__{name.upper()}"


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_is_declared_with_a_sentence(key: str) -> None:
    assert SETTINGS[key].sentence.endswith(".")
    assert SETTINGS[key].sentence[0].isupper()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DS_SERVICE_HOST", "10.0.0.1"),
        ("DS_SERVICE_PORT_HTTP", "4437"),
        ("DS_PORT", "tcp://10.0.0.1:4437"),
        ("DS_SERVER_PORT", "tcp://10.0.0.1:4437"),
        ("DS_PORT_4437_TCP_ADDR", "10.0.0.1"),
        ("DS_SERVER_SERVICE_HOST", "10.0.0.1"),
        ("DS_TEST_ROUNDS", "20"),
        ("DS_BENCH_SECONDS", "2"),
        ("PORT", "5000"),
    ],
)
def test_variables_that_are_not_ours_are_left_alone(name: str, value: str) -> None:
    assert from_environment(**{name: value}) == Config()
