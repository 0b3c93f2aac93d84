"""Which layer wins, and what the configuration says about where a value came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from durable_streams.config import Config, ConfigLoadOptions

LAYER_FILES = ("config/default.toml", "config/staging.toml", "config/local.toml", "chosen.toml")


def write_layers(root: Path, *names: str) -> None:
    """A file for each name, which sets the port to the number of the layer, counted from 1."""
    (root / "config").mkdir(exist_ok=True)
    for name in names:
        port = LAYER_FILES.index(name) + 1
        (root / name).write_text(f"[server]\nport = {port}\n")


def load(root: Path, environ: Mapping[str, str] | None = None, **options: object) -> Config:
    return Config.load(ConfigLoadOptions(root=root, environ=environ or {}, **options))  # type: ignore[arg-type]


def test_without_files_and_environment_everything_is_the_built_in_default(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config == Config()
    assert config.source_of("server.port") == "built-in default"


@pytest.mark.parametrize("count", range(1, len(LAYER_FILES) + 1))
def test_each_file_overrides_the_ones_before_it(tmp_path: Path, count: int) -> None:
    write_layers(tmp_path, "config/staging.toml", "chosen.toml", *LAYER_FILES[:count])
    chosen = tmp_path / "chosen.toml" if count == len(LAYER_FILES) else None
    profile = "staging" if count > 1 else None
    config = load(tmp_path, profile=profile, config_path=chosen)
    assert config.server.port == count
    assert config.source_of("server.port") == str(tmp_path / LAYER_FILES[count - 1])


def test_the_environment_overrides_every_file(tmp_path: Path) -> None:
    write_layers(tmp_path, *LAYER_FILES)
    environ = {"DS_SERVER__PORT": "99"}
    config = load(tmp_path, environ, profile="staging", config_path=tmp_path / "chosen.toml")
    assert config.server.port == 99
    assert config.source_of("server.port") == "environment variable DS_SERVER__PORT"


def test_a_layer_leaves_alone_what_it_does_not_name(tmp_path: Path) -> None:
    write_layers(tmp_path, "config/default.toml")
    (tmp_path / "config/local.toml").write_text('[server]\nhost = "127.0.0.1"\n')
    config = load(tmp_path)
    assert (config.server.host, config.server.port) == ("127.0.0.1", 1)
    assert config.source_of("server.port") == str(tmp_path / "config/default.toml")
    assert config.source_of("server.host") == str(tmp_path / "config/local.toml")


def test_profile_and_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    write_layers(tmp_path, "config/staging.toml")
    (tmp_path / "more.toml").write_text('[log]\nformat = "json"\n')
    config = load(tmp_path, {"DS_PROFILE": "staging", "DS_CONFIG": str(tmp_path / "more.toml")})
    assert (config.server.port, config.log.format) == (2, "json")


def test_an_argument_beats_the_environment_in_naming_the_profile(tmp_path: Path) -> None:
    write_layers(tmp_path, "config/staging.toml")
    assert load(tmp_path, {"DS_PROFILE": "missing"}, profile="staging").server.port == 2


def test_the_default_profile_needs_no_file_of_its_own(tmp_path: Path) -> None:
    assert load(tmp_path, profile="default") == Config()


def test_rust_log_beats_every_other_source_of_the_filter(tmp_path: Path) -> None:
    config = load(tmp_path, {"RUST_LOG": "warn", "DS_LOG__RUST_LOG": "debug"})
    assert config.log.rust_log == "warn"
    assert config.source_of("log.rust_log") == "environment variable RUST_LOG"


def test_an_empty_rust_log_is_as_good_as_none(tmp_path: Path) -> None:
    assert load(tmp_path, {"RUST_LOG": "", "DS_LOG__RUST_LOG": "debug"}).log.rust_log == "debug"


def test_a_later_layer_can_take_back_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/default.toml").write_text('[tls]\ncert_path = "a.pem"\nkey_path = "b.pem"\n')
    config = load(tmp_path, {"DS_TLS__CERT_PATH": "", "DS_TLS__KEY_PATH": ""})
    assert not config.tls.enabled


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Config().server.port = 1


def test_the_source_of_an_unknown_key_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Config().source_of("server.prot")


@pytest.mark.parametrize("profile", ["dev", "prod"])
def test_the_profiles_of_the_repository_load(profile: str) -> None:
    root = Path(__file__).resolve().parents[2]
    options = ConfigLoadOptions(profile=profile, environ={}, root=root)
    assert Config.load(options) != Config()


def test_the_development_profile_listens_on_this_machine_alone() -> None:
    root = Path(__file__).resolve().parents[2]
    config = Config.load(ConfigLoadOptions(profile="dev", environ={}, root=root))
    assert config.server.host == "127.0.0.1"
