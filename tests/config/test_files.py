"""Which files in `config/` are taken for ours, and the profiles that the package carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable_streams.config import Config, ConfigError, ConfigLoadOptions
from tests.servers import ROOT

PACKAGED = ("dev", "prod")
FOREIGN = "[database]\nurl = 'postgres://'\n[[tenants]]\nname = 'a'\n"


def load(root: Path, profile: str | None = None) -> Config:
    return Config.load(ConfigLoadOptions(root=root, profile=profile, environ={}))


def write(root: Path, name: str, text: str) -> str:
    """`config/NAME.toml` below `root`; its path as messages show it."""
    path = root / "config" / f"{name}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", ["default", "local"])
def test_a_file_of_another_program_is_ignored_and_reported(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, FOREIGN)
    config = load(tmp_path)
    assert config.model_dump() == Config().model_dump()
    assert (config.files, config.ignored_files) == ((), (path,))


def test_a_file_with_one_table_of_ours_is_ours_and_its_other_tables_are_mistakes(tmp_path: Path) -> None:
    write(tmp_path, "default", FOREIGN + "[server]\nport = 1\n")
    with pytest.raises(ConfigError, match=r"database\.url = .*: unknown key"):
        load(tmp_path)


@pytest.mark.parametrize("table", ["sever", "storag", "Server", "limit", "logs"])
def test_a_misspelt_table_is_a_mistake_and_not_another_programs(table: str, tmp_path: Path) -> None:
    write(tmp_path, "local", f"[{table}]\nport = 1\n")
    with pytest.raises(ConfigError, match=f"{table}.port"):
        load(tmp_path)


def test_the_files_that_set_something_are_named_in_their_order(tmp_path: Path) -> None:
    local = write(tmp_path, "local", "[server]\nport = 1\n")
    default = write(tmp_path, "default", "[log]\nformat = 'json'\n[server]\nport = 2\n")
    write(tmp_path, "staging", "# nothing yet\n")
    assert load(tmp_path, "staging").files == (default, local)


@pytest.mark.parametrize("profile", PACKAGED)
def test_a_packaged_profile_is_the_one_of_this_folder(profile: str, tmp_path: Path) -> None:
    elsewhere, here = load(tmp_path, profile), load(ROOT, profile)
    assert elsewhere.model_dump() == here.model_dump()
    assert elsewhere.model_dump() != Config().model_dump()
    (path,) = elsewhere.files
    assert Path(path).read_bytes() == (ROOT / "config" / f"{profile}.toml").read_bytes()


def test_a_profile_in_the_working_directory_takes_the_place_of_the_packaged_one(tmp_path: Path) -> None:
    path = write(tmp_path, "prod", "[server]\nport = 5\n")
    config = load(tmp_path, "prod")
    assert (config.server.port, config.storage.mode, config.files) == (5, "memory", (path,))


def test_a_profile_of_another_program_leaves_room_for_the_packaged_one(tmp_path: Path) -> None:
    path = write(tmp_path, "prod", FOREIGN)
    config = load(tmp_path, "prod")
    assert (config.storage.mode, config.ignored_files) == ("file-durable", (path,))


def test_a_packaged_profile_is_offered_for_a_misspelt_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "prdo")
    assert caught.value.nearest == "prod"


def test_the_local_file_of_the_checkout_is_no_packaged_profile(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        load(tmp_path, "local")
