"""The documents that follow from the declarations: docs/settings.md, default.toml, the effective dump."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import tomli

from durable_streams.config import SETTINGS, Config, ConfigError, ConfigLoadOptions
from durable_streams.config.errors import MASK
from durable_streams.config.layers import Entry, shown_value
from durable_streams.config.rendering import effective_toml, settings_page
from tests.servers import ROOT


def test_the_page_of_settings_is_what_the_declarations_say() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page()


@pytest.mark.parametrize("key", SETTINGS)
def test_the_page_has_each_setting_with_its_variable_and_sentence(key: str) -> None:
    declared = SETTINGS[key]
    rows = [line for line in settings_page().splitlines() if line.startswith(f"| `{key}` |")]
    assert len(rows) == 1
    assert f"`{declared.env_name}`" in rows[0]
    assert declared.sentence in rows[0]


def test_the_default_file_shows_every_setting_with_its_built_in_default() -> None:
    text = (ROOT / "config" / "default.toml").read_text()
    assert tomli.loads(text) == {section: {} for section in Config.model_fields}
    shown = re.sub(r"(?m)^# (\w+ = )", r"\1", re.sub(r"(?m)^# (cert|key)_path.*\n", "", text))
    document = tomli.loads(shown)
    assert Config.model_validate(document) == Config()
    missing = {key for key in SETTINGS if key.split(".")[1] not in document[key.split(".")[0]]}
    assert missing == {"tls.cert_path", "tls.key_path"}


def test_the_dump_can_be_loaded_again(tmp_path: Path) -> None:
    environ = {
        "DS_SERVER__LONG_POLL_TIMEOUT_SECS": "0.25",
        "DS_HTTP__CORS_ORIGINS": "https://a.example,https://b.example",
        "DS_HTTP__COMPRESSION": "false",
        "DS_RATES__RULES": '[{limit = "1/hour", operations = ["read", "poll"]}, {limit = "2/day", by = "principal"}]',
        "DS_QUOTAS__BY_PREFIX": '[{prefix = "a\\"/", max_bytes = "1KiB"}]',
        "DS_STORAGE__DATA_DIR": 'quo"te\\and\ttab\x7f é',
    }
    config = Config.load(ConfigLoadOptions(environ=environ, root=tmp_path))
    dumped = tmp_path / "dumped.toml"
    dumped.write_text(effective_toml(config))
    again = Config.load(ConfigLoadOptions(config_path=dumped, environ={}, root=tmp_path))
    assert again.model_dump() == config.model_dump()


def test_the_dump_names_the_source_of_each_value(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[limits]\nmax_read_bytes = 7\n")
    options = ConfigLoadOptions(config_path=file, environ={"DS_SERVER__PORT": "1"}, root=tmp_path)
    lines = effective_toml(Config.load(options)).splitlines()
    by_name = {line.split(" =")[0]: line for line in lines}
    assert by_name["port"].endswith("# environment variable DS_SERVER__PORT")
    assert by_name["max_read_bytes"].endswith(f"# {file}")
    assert by_name["host"].endswith("# built-in default")
    assert len([line for line in lines if "#" in line]) == len(SETTINGS)


def test_a_secret_is_masked_in_the_dump_and_in_error_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = dataclasses.replace(SETTINGS["storage.data_dir"], secret=True)
    monkeypatch.setitem(SETTINGS, "storage.data_dir", secret)
    config = Config.load(ConfigLoadOptions(environ={"DS_STORAGE__DATA_DIR": "hunter2"}, root="/nonexistent"))
    dump = effective_toml(config)
    assert "hunter2" not in dump
    assert f'data_dir = "{MASK}"' in dump
    assert shown_value(Entry("storage.data_dir", "storage.data_dir", "hunter2", "here")) == MASK


def test_the_value_of_a_misspelt_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = dataclasses.replace(SETTINGS["storage.data_dir"], secret=True)
    monkeypatch.setitem(SETTINGS, "storage.data_dir", secret)
    with pytest.raises(ConfigError) as caught:
        Config.load(ConfigLoadOptions(environ={"DS_STORAGE__DATA_DRI": "hunter2"}, root=tmp_path))
    assert "hunter2" not in str(caught.value)
