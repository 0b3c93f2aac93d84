"""The table of modes: it alone lists them, its rows are whole, and a missing package is named with what to install."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from durable_streams.app import build_storage
from durable_streams.config import Config, StorageSettings
from durable_streams.config.settings import PostgresSettings, StorageMode
from durable_streams.extras import EXTRAS, MissingExtra
from durable_streams.serving.start_checks import unfit_setting
from durable_streams.storage import modes
from durable_streams.storage.abilities import Shared
from durable_streams.storage.contract import Storage
from durable_streams.storage.modes import MODES, Mode, mode_of
from tests.postgres.cluster import new_schema, shared_cluster
from tests.servers import ROOT

every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: str(mode.name))


def settings_of(mode: Mode, data_dir: Path) -> StorageSettings:
    name, _, backend = mode.name.partition(" ")
    return StorageSettings(mode=name, acid_backend=backend or "file", data_dir=data_dir)


def build(mode: Mode, data_dir: Path) -> Storage:
    """The storage of a row; one that others share gets a database, or the test skips where there is none."""
    settings = settings_of(mode, data_dir)
    if not mode.shared:
        return build_storage(Config(storage=settings))
    postgres = PostgresSettings(dsn=shared_cluster().dsn, db_schema=new_schema())
    return build_storage(Config(storage=settings, postgres=postgres))


@every_mode
def test_the_configuration_selects_the_row_with_its_name(mode: Mode, tmp_path: Path) -> None:
    assert mode_of(settings_of(mode, tmp_path)) is mode


def test_a_switch_of_another_mode_selects_nothing() -> None:
    assert mode_of(StorageSettings(mode="memory", acid_backend="in-memory")).name == "memory"


def test_the_configuration_takes_exactly_the_names_of_the_table() -> None:
    assert set(get_args(StorageMode)) == {name.partition(" ")[0] for name in MODES}


@every_mode
def test_what_a_row_says_is_so(mode: Mode, tmp_path: Path) -> None:
    storage = build(mode, tmp_path / "data")
    storage.open()
    try:
        assert isinstance(storage, Shared) is mode.shared
        on_disk = (tmp_path / "data").exists()
        assert on_disk is not (storage.counts_as_memory or mode.shared)
        assert on_disk is bool(mode.mark) is (mode.maintenance is not None)
        assert (mode.name in modes.modes_marked(tmp_path / "data")) is on_disk
    finally:
        storage.close()


@every_mode
def test_the_page_on_storage_has_the_guarantee(mode: Mode) -> None:
    name, _, backend = mode.name.partition(" ")
    rows = [row for row in (ROOT / "docs" / "storage.md").read_text().splitlines() if mode.guarantee in row]
    assert any(row.startswith(f"| `{name}` |") and backend in row for row in rows)


def literals(path: Path) -> set[str]:
    """All texts of a module but docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    ignored = {id(node.value) for node in statements if isinstance(node.value, ast.Constant)}
    constants = [
        node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in ignored
    ]
    return {node.value for node in constants if isinstance(node.value, str)}


def test_no_other_module_knows_the_modes_by_name() -> None:
    allowed = {
        # The default of storage.mode.
        ROOT / "durable_streams" / "config" / "settings.py": {"memory"},
        # Another server's word for the backend in memory.
        ROOT / "durable_streams" / "config" / "values.py": {"memory"},
        # The name of an extra, and that of a directory.
        ROOT / "durable_streams" / "extras.py": {"acid", "postgres"},
        ROOT / "durable_streams" / "__init__.py": {"acid"},
        ROOT / "durable_streams" / "storage" / "zodb" / "opening.py": {"acid"},
    }
    package = ROOT / "durable_streams"
    found = {
        path: literals(path) & (MODES.keys() | modes.MODE_ALIASES.values()) for path in package.rglob("*.py")
    }
    del found[package / "storage" / "modes.py"]
    assert {path: names for path, names in found.items() if names - allowed.get(path, set())} == {}


@pytest.mark.parametrize("package", EXTRAS["acid"])
def test_a_package_that_is_missing_is_named_with_what_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    settings = settings_of(MODES["acid"], tmp_path / "data")
    sentence = (
        f"storage.mode = acid needs the package {package}, which is not installed: "
        "pip install 'durable-streams-server[acid]'"
    )
    with pytest.raises(MissingExtra) as caught:
        build_storage(Config(storage=settings))
    assert str(caught.value) == sentence
    assert unfit_setting(Any, MODES["acid"]) == sentence
    assert not (tmp_path / "data").exists()
    assert build_storage(Config()) is not None
