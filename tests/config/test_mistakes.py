"""What is said about a configuration that must not be used: key, value, reason, origin, nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from durable_streams.config import Config, ConfigError, ConfigLoadOptions
from durable_streams.config.settings import StorageSettings, TlsSettings

# name of the variable, its text, the reason, and the nearest name or None
WRONG_VARIABLES = [
    ("DS_SERVER__PORT", "abc", "must be a whole number", None),
    ("DS_SERVER__PORT", "", "must be a whole number", None),
    ("DS_SERVER__PORT", "5_000", "must be a whole number", None),
    ("DS_SERVER__PORT", "1.5", "must be a whole number", None),
    ("DS_SERVER__PORT", "70000", "must be at most 65535", None),
    ("DS_SERVER__PORT", "9" * 30, "must be a whole number", None),
    ("DS_SERVER__HOST", "a b", "must be a host name or an address without a port", None),
    ("DS_SERVER__HOST", "localhost:81", "must be a host name or an address without a port", None),
    ("DS_SERVER__LONG_POLL_TIMEOUT_SECS", "0", "must be more than 0", None),
    ("DS_SERVER__LONG_POLL_TIMEOUT_SECS", "nan", "must be a number", None),
    ("DS_SERVER__SSE_RECONNECT_INTERVAL_SECS", "-1", "must be at least 0", None),
    ("DS_SERVER__BIND_ADDRESS", "4437", "must be host:port", None),
    ("DS_SERVER__BIND_ADDRESS", "::1:4437", "an IPv6 address must stand in brackets before its port", None),
    ("DS_HTTP__CORS_ORIGINS", "example.org", "'example.org' is not an origin", None),
    ("DS_HTTP__CORS_ORIGINS", "https://a.example/", "is not an origin", None),
    ("DS_HTTP__CORS_ORIGINS", "*,https://a.example", "'*' allows every origin and must stand alone", None),
    ("DS_HTTP__STREAM_BASE_PATH", "streams", "must start with '/'", None),
    ("DS_HTTP__STREAM_BASE_PATH", "/streams/", "must not end with '/'", None),
    ("DS_HTTP__STREAM_BASE_PATH", "/a?b", "must be a literal URL path", None),
    ("DS_HTTP__STREAM_BASE_PATH", "/a%2Fb", "must be a literal URL path", None),
    ("DS_HTTP__STREAM_BASE_PATH", "/a/../b", "must not contain empty, '.' or '..' segments", None),
    ("DS_HTTP__COMPRESSION", "maybe", "must be true or false", None),
    ("DS_HTTP__CACHE_VISIBILITY", "shared", "must be one of 'public' or 'private'", None),
    ("DS_LIMITS__MAX_MEMORY_BYTES", "0", "must be at least 1", None),
    ("DS_LIMITS__MAX_STREAM_BYTES", "-1", "must be at least 0", None),
    (
        "DS_STORAGE__MODE",
        "redis",
        "must be one of 'memory', 'file-fast', 'file-durable', 'acid' or 'postgres'",
        None,
    ),
    ("DS_STORAGE__DATA_DIR", "", "must not be empty", None),
    ("DS_STORAGE__ACID_SHARD_COUNT", "3", "must be a power of two from 1 to 256", None),
    ("DS_STORAGE__ACID_SHARD_COUNT", "512", "must be at most 256", None),
    ("DS_STORAGE__ACID_BACKEND", "zeo", "must be one of 'file' or 'in-memory'", None),
    ("DS_AUTH__JWT_KEYS_URL", "http://login.example/keys", "must be an https URL", None),
    ("DS_AUTH__JWT_KEYS_URL", "login.example/keys", "must be an https URL", None),
    ("DS_AUTH__JWT_KEYS_URL", "https://[x/keys", "must be an https URL", None),
    ("DS_AUTH__JWT_KEYS_URL", "https://me:secret@login.example/keys", "must be an https URL", None),
    ("DS_AUTH__MODE", "jwt", "needs one of auth.jwt_keys_path and auth.jwt_keys_url", None),
    ("DS_AUTH__URL_KEYS_PATH", "keys", "signed URLs need access control", None),
    ("DS_AUTH__JWT_SCOPE_CLAIM", "", "", None),
    ("DS_RATES__RULES", "[{limit = }]", "must be a list of tables such as", None),
    ("DS_TLS__CLIENT_CA_PATH", "ca.pem", "tls.cert_path must be set too", None),
    ("DS_TLS__MIN_VERSION", "1.1", "must be one of '1.2' or '1.3'", None),
    ("DS_PROXY__TRUSTED", "10.0.0.1/8", "a network is written as 10.1.0.0/16", None),
    ("DS_PROXY__HEADERS", "via", "must be one of 'x-forwarded' or 'forwarded'", None),
    ("DS_SERVER__PUBLIC_URL", "https://a.example/b", "must have no path", None),
    ("DS_SERVER__PUBLIC_URL", "a.example", "must be a URL", None),
    ("DS_LOG__FORMAT", "xml", "must be one of 'text' or 'json'", None),
    ("DS_LOG__RUST_LOG", "inof", "is neither a level nor target=level, did you mean 'info'?", None),
    ("RUST_LOG", "durable_streams=loud", "'loud' is not one of trace, debug, info, warn, error, off", None),
    ("RUST_LOG", "[span]=info", "filters on spans and fields are not supported", None),
    ("DS_SERVER__PROT", "1", "unknown key", "DS_SERVER__PORT"),
    ("DS_SERVER_PORT", "1", "unknown key", "DS_SERVER__PORT"),
    ("DS_PORT", "1", "unknown key", "DS_SERVER__PORT"),
    ("DS_STORAGE__MODUS", "acid", "unknown key", "DS_STORAGE__MODE"),
    ("DS_TLS__CERT", "c.pem", "unknown key", "DS_TLS__CERT_PATH"),
    ("DS_XYZZY__QQQQQQ", "1", "unknown key", None),
]

# the text of a file, the key at fault as written, the reason, the nearest key or None
WRONG_FILES = [
    ("[server]\nport = '5000'", "server.port", "must be a whole number", None),
    ("[server]\nport = true", "server.port", "must be a whole number", None),
    ("[server]\nport = 50.0", "server.port", "must be a whole number", None),
    ("[server]\nsse_heartbeat_secs = nan", "server.sse_heartbeat_secs", "must be a finite number", None),
    ("[server.port]\nnumber = 1", "server.port", "must be a whole number", None),
    ("[http]\ncompression = 1", "http.compression", "must be true or false", None),
    ("[http]\ncors_origins = [1]", "http.cors_origins", "must be text", None),
    ("[http]\ncors_origins = 1", "http.cors_origins", "must be a list of texts", None),
    ("[storage]\ndata_dir = 1", "storage.data_dir", "must be a path", None),
    ('[storage]\ndata_dir = "a\\u0000b"', "storage.data_dir", "must not contain a NUL character", None),
    ("[transport.tls]\ncert_path = 1\nkey_path = 'k'", "transport.tls.cert_path", "must be a path", None),
    ("port = 1", "port", "unknown key", "server.port"),
    ("[servr]\nport = 1", "servr.port", "unknown key", "server.port"),
    ("[server]\nPort = 1", "server.Port", "unknown key", "server.port"),
    (
        "[storage.acid]\nshard_count = 2",
        "storage.acid.shard_count",
        "unknown key",
        "storage.acid_shard_count",
    ),
    ("server = 1", "server", "unknown key", None),
    ("rates.rules = 1", "rates.rules", "must be a list of tables", None),
    ("rates.rules = [1]", "rates.rules", "entry 1: must be a table", None),
    ("[[rates.rules]]\nby = 'address'", "rates.rules", "entry 1, limit: must be given", None),
    ("[[rates.rules]]\nlimit = '0/hour'", "rates.rules", "entry 1, limit: must be a rate such as", None),
    (
        "[[rates.rules]]\nlimit = '1/hour'\n[[rates.rules]]\nlimit = '1/hour'\noperations = ['apend']",
        "rates.rules",
        "entry 2, operations: must be one of 'create'",
        None,
    ),
    (
        "[[defaults.by_prefix]]\nprefix = 'a'\nttl = 1",
        "defaults.by_prefix",
        "entry 1, ttl: is not known here",
        None,
    ),
    (
        "[[defaults.by_prefix]]\nprefix = 'a'\nttl_secs = 0",
        "defaults.by_prefix",
        "entry 1, ttl_secs: must be",
        None,
    ),
    (
        "[[quotas.by_prefix]]\nprefix = 'a'\n[[quotas.by_prefix]]\nprefix = 'a'",
        "quotas.by_prefix",
        "has two entries for the prefix 'a'",
        None,
    ),
    (
        "[[quotas.by_principal]]\nprincipal = 'a'\n[[quotas.by_principal]]\nprincipal = 'a'",
        "quotas.by_principal",
        "has two entries for the principal 'a'",
        None,
    ),
    (
        "[storage]\nmode = 'postgres'\n[postgres]\ndsn = 'x'\n[[quotas.by_prefix]]\nprefix = ''\nmax_bytes = '1MiB'",
        "quotas.by_prefix",
        "are counted by one process, and postgres has several",
        None,
    ),
    ("[transport]\nmode = 'tls'", "transport.mode", "unknown key", "storage.mode"),
]


def failure(options: ConfigLoadOptions) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        Config.load(options)
    line = str(caught.value)
    assert line.isprintable(), "an error is one line, without control characters"
    return caught.value


@pytest.mark.parametrize(("name", "text", "reason", "nearest"), WRONG_VARIABLES)
def test_a_wrong_variable_is_named_with_its_value_reason_and_nearest(
    name: str, text: str, reason: str, nearest: str | None, tmp_path: Path
) -> None:
    error = failure(ConfigLoadOptions(environ={name: text}, root=tmp_path))
    line = str(error)
    assert line.startswith(f"{name} = ")
    assert text[:20] in line
    assert reason in line
    assert f"(from environment variable {name})" in line
    assert error.phase == "validate_config"
    assert error.nearest == nearest
    assert nearest is None or line.endswith(f"; did you mean {nearest}?")


@pytest.mark.parametrize(("text", "key", "reason", "nearest"), WRONG_FILES)
def test_a_wrong_file_is_named_with_key_reason_and_nearest(
    text: str, key: str, reason: str, nearest: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    error = failure(ConfigLoadOptions(config_path=file, environ={}, root=tmp_path))
    assert error.key == key
    assert reason in error.reason
    assert error.origin == str(file)
    assert f"(from {file})" in str(error)
    assert error.nearest == nearest


@pytest.mark.parametrize(("present", "absent"), [("cert_path", "key_path"), ("key_path", "cert_path")])
def test_half_a_certificate_is_refused_and_the_other_half_named(
    present: str, absent: str, tmp_path: Path
) -> None:
    name = f"DS_TLS__{present.upper()}"
    error = failure(ConfigLoadOptions(environ={name: "x.pem"}, root=tmp_path))
    assert (error.key, error.origin) == (name, f"environment variable {name}")
    assert f"tls.{absent} must be set too" in error.reason


def test_half_a_certificate_is_refused_in_code_as_well() -> None:
    with pytest.raises(ValidationError, match=r"tls\.key_path must be set too"):
        TlsSettings(cert_path=Path("c.pem"))


def test_a_wrong_value_is_refused_in_code_as_well() -> None:
    with pytest.raises(ValidationError, match="power of two"):
        StorageSettings(acid_shard_count=3)


def test_two_names_of_one_setting_that_disagree_are_refused(tmp_path: Path) -> None:
    environ = {"DS_SERVER__BIND_ADDRESS": "127.0.0.1:9", "DS_SERVER__PORT": "10"}
    error = failure(ConfigLoadOptions(environ=environ, root=tmp_path))
    assert "contradicts DS_SERVER__BIND_ADDRESS" in error.reason
    assert error.key == "DS_SERVER__PORT"


def test_two_names_of_one_setting_may_agree(tmp_path: Path) -> None:
    environ = {"DS_LOG__RUST_LOG": "warn", "DS_OBSERVABILITY__RUST_LOG": "warn"}
    assert Config.load(ConfigLoadOptions(environ=environ, root=tmp_path)).log.rust_log == "warn"


def test_a_layer_with_the_other_name_overrides_a_lower_layer(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[server]\nport = 1\n")
    environ = {"DS_SERVER__BIND_ADDRESS": "127.0.0.1:9"}
    options = ConfigLoadOptions(config_path=file, environ=environ, root=tmp_path)
    assert Config.load(options).server.port == 9


def test_a_line_break_in_a_value_cannot_make_a_second_line(tmp_path: Path) -> None:
    environ = {"DS_SERVER__PORT": "1\nERROR forged\u2028\x1b[31m"}
    line = str(failure(ConfigLoadOptions(environ=environ, root=tmp_path)))
    assert "\\n" in line


def test_a_line_break_in_an_unknown_key_cannot_make_a_second_line(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('"a\\nb" = 1\n')
    failure(ConfigLoadOptions(config_path=file, environ={}, root=tmp_path))


def test_a_very_long_value_is_cut(tmp_path: Path) -> None:
    line = str(failure(ConfigLoadOptions(environ={"DS_STORAGE__MODE": "x" * 10_000}, root=tmp_path)))
    assert len(line) < 400


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[server\nport = 1", "is not valid TOML"),
        (b"a = \xff", "is not valid TOML"),
        (b"port = 1\nport = 2", "is not valid TOML"),
    ],
)
def test_a_file_that_is_not_toml_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(content)
    error = failure(ConfigLoadOptions(config_path=file, environ={}, root=tmp_path))
    assert (error.phase, str(file) in error.reason, reason in error.reason) == ("load_config", True, True)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    error = failure(ConfigLoadOptions(config_path=tmp_path / "no.toml", environ={}, root=tmp_path))
    assert str(error) == f"cannot read {tmp_path / 'no.toml'}: No such file or directory"
    assert error.phase == "load_config"


def test_a_directory_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config" / "local.toml").mkdir(parents=True)
    error = failure(ConfigLoadOptions(environ={}, root=tmp_path))
    assert "local.toml: Is a directory" in str(error)


def test_a_profile_without_a_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "prod.toml").write_text("")
    error = failure(ConfigLoadOptions(profile="prdo", environ={}, root=tmp_path))
    assert (error.key, error.nearest, error.phase) == ("profile", "prod", "load_config")
    assert str(tmp_path / "config" / "prdo.toml") in str(error)


@pytest.mark.parametrize("profile", ["../secret", "a/b", "-x", ".", "a\nb"])
def test_a_profile_cannot_leave_its_folder(profile: str, tmp_path: Path) -> None:
    error = failure(ConfigLoadOptions(profile=profile, environ={}, root=tmp_path))
    assert "a profile is named with letters" in error.reason
