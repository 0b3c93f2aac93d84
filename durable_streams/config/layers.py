"""From files and environment to layers: flat tables of dotted key, value and origin.

A layer knows all names of every setting and refuses unknown ones. It does not check values: the declared
types do, after the layers are merged.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomli

from durable_streams.config import values
from durable_streams.config.configuration import SETTINGS, Setting, env_name
from durable_streams.config.errors import LOAD_CONFIG, MASK, ConfigError, quote_value

ENVIRONMENT: Final = "environment variable"
OPTION: Final = "option"
"""The first words of origins that are not files."""

ENV_PREFIX: Final = "DS_"
PROFILE_VARIABLE: Final = "DS_PROFILE"
CONFIG_VARIABLE: Final = "DS_CONFIG"
RUST_LOG_VARIABLE: Final = "RUST_LOG"
DATABASE_VARIABLE: Final = "DATABASE_URL"
# Switches of the test suite and the benchmarks; a server that they start inherits them.
FOREIGN_PREFIXES: Final = ("DS_TEST_", "DS_BENCH_")
# Kubernetes tells every container about a service called "ds" or "ds-..." in such variables.
_SERVICE_LINK: Final = re.compile(r"DS_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")

OPTIONS: Final = {
    "--host": "server.host",
    "--port": "server.port",
    "--mode": "storage.mode",
    "--data-dir": "storage.data_dir",
}
"""The settings that the command line takes as options; they override every other layer."""

BIND_ADDRESS: Final = "server.bind_address"
# How a layer writes a dotted key: as it is in files, as a variable's name in the environment.
Spelling = Callable[[str], str]
_KEY_OF_NAME: Final = {
    name: declared.key for declared in SETTINGS.values() for name in (declared.key, *declared.aliases)
}
TABLES: Final = frozenset(name.partition(".")[0] for name in _KEY_OF_NAME)
"""The top-level tables that a file of this server can have."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One value as it was found: under which name, and where."""

    key: str
    written_key: str
    value: Any
    origin: str


def read_toml(path: Path) -> dict[str, Any]:
    """The document of one TOML file. Raises ConfigError when it cannot be read or parsed."""
    try:
        with path.open("rb") as file:
            return tomli.load(file)
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}", phase=LOAD_CONFIG) from exc
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is not valid TOML: {exc}", phase=LOAD_CONFIG) from exc


def toml_layer(document: Mapping[str, Any], origin: str) -> dict[str, Entry]:
    """The layer of a TOML document. Raises ConfigError for unknown keys."""
    return _layer(((key, value, origin) for key, value in _leaves(document)), str)


def read_options(options: Mapping[str, str]) -> dict[str, Entry]:
    """The layer of the command line: the text of every option of `OPTIONS` that was given."""
    entries = (Entry(OPTIONS[name], name, text, f"{OPTION} {name}") for name, text in options.items())
    return {entry.key: _from_text(entry) for entry in entries}


def read_environment(environ: Mapping[str, str]) -> dict[str, Entry]:
    """The layer of the `DS_*` variables; `RUST_LOG` beats `log.rust_log`, `DATABASE_URL` stands in for
    `DS_POSTGRES__DSN`. Raises ConfigError for unknown ones.
    """
    ours = sorted(name for name in environ if _is_setting(name, environ[name]))
    found = [(_key_of_variable(name), environ[name], f"{ENVIRONMENT} {name}") for name in ours]
    layer = _layer(found, env_name)
    rust_log = environ.get(RUST_LOG_VARIABLE)
    if rust_log:
        origin = f"{ENVIRONMENT} {RUST_LOG_VARIABLE}"
        layer["log.rust_log"] = Entry("log.rust_log", RUST_LOG_VARIABLE, rust_log, origin)
    database = environ.get(DATABASE_VARIABLE)
    if database and "postgres.dsn" not in layer:
        origin = f"{ENVIRONMENT} {DATABASE_VARIABLE}"
        layer["postgres.dsn"] = Entry("postgres.dsn", DATABASE_VARIABLE, database, origin)
    return {key: _from_text(entry) for key, entry in layer.items()}


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = prefix + name
        if isinstance(value, dict) and key not in _KEY_OF_NAME:
            yield from _leaves(value, key + ".")
        else:
            yield key, value


def _layer(found: Iterable[tuple[str, Any, str]], spell: Spelling) -> dict[str, Entry]:
    layer: dict[str, Entry] = {}
    for written_key, value, origin in found:
        for entry in _entries(written_key, value, origin, spell):
            before = layer.setdefault(entry.key, entry)
            if before is not entry and before.value != entry.value:
                raise ConfigError(
                    f"contradicts {spell(before.written_key)}, another name of the same setting",
                    key=spell(written_key),
                    value=shown_value(entry),
                    origin=origin,
                )
    return layer


def _entries(written_key: str, value: Any, origin: str, spell: Spelling) -> Iterator[Entry]:
    if written_key == BIND_ADDRESS:
        yield from _address_entries(value, origin, spell)
        return
    key = _KEY_OF_NAME.get(written_key)
    if key is None:
        raise _unknown(written_key, value, origin, spell)
    yield Entry(key, written_key, value, origin)


def _unknown(written_key: str, value: Any, origin: str, spell: Spelling) -> ConfigError:
    nearest = nearest_key(written_key)
    # A misspelt secret is still a secret.
    hidden = nearest is not None and SETTINGS[_KEY_OF_NAME.get(nearest, "server.host")].secret
    return ConfigError(
        "unknown key",
        key=spell(written_key),
        value=MASK if hidden else quote_value(value),
        origin=origin,
        nearest=None if nearest is None else spell(nearest),
    )


def _address_entries(value: Any, origin: str, spell: Spelling) -> Iterator[Entry]:
    try:
        host, port = values.address(str(value))
    except ValueError as exc:
        raise ConfigError(str(exc), key=spell(BIND_ADDRESS), value=quote_value(value), origin=origin) from exc
    yield Entry("server.host", BIND_ADDRESS, host, origin)
    yield Entry("server.port", BIND_ADDRESS, port, origin)


def nearest_key(written_key: str) -> str | None:
    """The known key that is most like the unknown one, by its whole name or else by its last part."""
    whole = difflib.get_close_matches(written_key, [*_KEY_OF_NAME, BIND_ADDRESS], n=1, cutoff=0.75)
    if whole:
        return whole[0]
    by_last_part = {key.rpartition(".")[2]: key for key in reversed(SETTINGS)}
    parts = difflib.get_close_matches(written_key.rpartition(".")[2], by_last_part, n=1)
    return by_last_part[parts[0]] if parts else None


def shown_value(entry: Entry) -> str:
    """The value as an error line may show it: never a secret."""
    return MASK if SETTINGS[entry.key].secret else quote_value(entry.value)


def _is_setting(name: str, value: str) -> bool:
    if not name.startswith(ENV_PREFIX) or name in (PROFILE_VARIABLE, CONFIG_VARIABLE):
        return False
    if name.startswith(FOREIGN_PREFIXES):
        return False
    is_service = _SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_ADDRESS.match(value))
    return "__" in name or not is_service


def _key_of_variable(name: str) -> str:
    """The dotted key by rule; a name without the double underscore matches no setting."""
    return name.removeprefix(ENV_PREFIX).replace("__", ".").lower()


def _from_text(entry: Entry) -> Entry:
    """Numbers and booleans read from text. Other text stays text, which their declared types refuse."""
    declared: Setting = SETTINGS[entry.key]
    value = entry.value
    if isinstance(value, str):
        value = _typed(declared.field.annotation, value)
    return Entry(entry.key, entry.written_key, value, entry.origin)


def _typed(annotation: Any, text: str) -> Any:
    stripped = text.strip()
    if annotation is bool:
        return _BOOLEANS.get(stripped.lower(), text)
    if annotation in (int, float) and re.fullmatch(r"[+-]?[0-9]+", stripped):
        return int(stripped) if len(stripped) <= 20 else text
    if annotation is float and re.fullmatch(r"[+-]?[0-9]*\.[0-9]+", stripped):
        return float(stripped)
    return text


_BOOLEANS: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}
