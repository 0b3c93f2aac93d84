"""Sizes with units, wherever a setting is a number of bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable_streams.config import SETTINGS, Config, ConfigError, ConfigLoadOptions

SIZES = [
    ("4096", 4096),
    ("4096B", 4096),
    ("512KiB", 512 * 1024),
    ("100MiB", 100 * 1024**2),
    ("100 mib", 100 * 1024**2),
    ("1.5GiB", 3 * 1024**3 // 2),
    ("2GB", 2_000_000_000),
    ("1TiB", 1024**4),
    ("3kB", 3000),
    (" 7MB ", 7_000_000),
]
NO_SIZES = [
    "",
    "MiB",
    "-1MiB",
    "1e3",
    "1 XiB",
    "1Mi",
    "1.5.5MB",
    "0x10",
    "1_000",
    "one",
    "1MiB/s",
    "\u0661MB",
]
BYTE_SETTINGS = [key for key, declared in SETTINGS.items() if declared.unit == "bytes"]


def from_environment(text: str, key: str = "limits.max_memory_bytes") -> int:
    options = ConfigLoadOptions(environ={SETTINGS[key].env_name: text}, root="/nonexistent")
    size: int = Config.load(options).value_of(key)
    return size


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_a_size_may_be_written_with_its_unit(text: str, size: int) -> None:
    assert from_environment(text) == size
    assert type(from_environment(text)) is int


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_a_file_may_write_it_as_text(text: str, size: int, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f"[limits]\nmax_memory_bytes = '{text}'\n")
    options = ConfigLoadOptions(config_path=file, environ={}, root=tmp_path)
    assert Config.load(options).limits.max_memory_bytes == size


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="a size such as 512KiB, 100MiB or 2GB"):
        from_environment(text)


def test_a_part_of_a_byte_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not a whole number of bytes"):
        from_environment("1.0001kB")


def test_a_size_is_held_to_the_limits_of_its_setting() -> None:
    with pytest.raises(ConfigError, match="must be at least 1"):
        from_environment("0MiB")


@pytest.mark.parametrize("key", BYTE_SETTINGS)
def test_every_setting_in_bytes_takes_a_unit(key: str) -> None:
    """One that does not is declared `int`, and should be `ByteCount`."""
    assert from_environment("1GiB", key) == 1024**3
