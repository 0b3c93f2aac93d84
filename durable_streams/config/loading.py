"""Loads the layers in their order, and reports wrong values.

Built-in defaults, then config/default.toml, config/<profile>.toml, config/local.toml, the file of `--config`, the
environment, and the options of the command line. The result remembers where each value came from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from durable_streams.config.configuration import Config, env_name
from durable_streams.config.errors import ConfigError
from durable_streams.config.files import LOCAL, ConfigFolder
from durable_streams.config.layers import (
    CONFIG_VARIABLE,
    DATABASE_VARIABLE,
    ENVIRONMENT,
    OPTION,
    PROFILE_VARIABLE,
    RUST_LOG_VARIABLE,
    Entry,
    read_environment,
    read_options,
    read_toml,
    shown_value,
    toml_layer,
)

DEFAULT_PROFILE: Final = "default"


def _current_environment() -> Mapping[str, str]:
    return dict(os.environ)


@dataclass(frozen=True, slots=True)
class ConfigLoadOptions:
    """What to load. `root` is the directory that holds `config/`.

    `profile` and `config_path` may also be given by the variables DS_PROFILE and DS_CONFIG of `environ`; an explicit
    argument beats them. `options` are those of the command line as text, by name: `{"--port": "5000"}`.
    """

    profile: str | None = None
    config_path: Path | str | None = None
    environ: Mapping[str, str] = field(default_factory=_current_environment)
    root: Path | str = "."
    options: Mapping[str, str] = field(default_factory=dict)


def load_config(options: ConfigLoadOptions) -> Config:
    """The configuration of all layers. Raises ConfigError at the first thing that is wrong."""
    entries: dict[str, Entry] = {}
    origins: dict[str, None] = {}
    folder = ConfigFolder(Path(options.root))
    for layer in _layers(options, folder):
        entries.update(layer)
        origins.update(dict.fromkeys(entry.origin for entry in layer.values()))
    config = _validated(entries)
    config._read_from.files = tuple(
        origin for origin in origins if not origin.startswith((ENVIRONMENT, OPTION))
    )
    config._read_from.ignored_files = tuple(folder.ignored)
    return config


def _layers(options: ConfigLoadOptions, folder: ConfigFolder) -> Iterator[dict[str, Entry]]:
    yield from folder.layer_if_ours(DEFAULT_PROFILE)
    profile = options.profile or options.environ.get(PROFILE_VARIABLE) or DEFAULT_PROFILE
    if profile != DEFAULT_PROFILE:
        yield folder.profile(profile)
    yield from folder.layer_if_ours(LOCAL)
    chosen = options.config_path or options.environ.get(CONFIG_VARIABLE)
    if chosen:
        yield toml_layer(read_toml(Path(chosen)), str(chosen))
    yield read_environment(options.environ)
    yield read_options(options.options)


def _validated(entries: Mapping[str, Entry]) -> Config:
    nested: dict[str, dict[str, Any]] = {}
    for key, entry in entries.items():
        section, name = key.split(".")
        nested.setdefault(section, {})[name] = entry.value
    try:
        config = Config.model_validate(nested)
    except ValidationError as exc:
        raise _first_problem(exc.errors()[0], entries) from exc
    config._read_from.sources.update({key: entry.origin for key, entry in entries.items()})
    return config


def _first_problem(error: ErrorDetails, entries: Mapping[str, Entry]) -> ConfigError:
    context = error.get("ctx", {})
    key = context.get("key") or ".".join(str(part) for part in error["loc"][:2])
    entry = entries[key]
    return ConfigError(
        _place(error) + _reason(error), key=_spelling(entry), value=shown_value(entry), origin=entry.origin
    )


def _place(error: ErrorDetails) -> str:
    """Which part of a list of tables is wrong, such as ``entry 2, limit: ``; nothing for a value of one part."""
    parts = error["loc"][2:]
    if not parts or not isinstance(parts[0], int):
        return ""
    return (
        ", ".join([f"entry {parts[0] + 1}", *(str(part) for part in parts[1:] if isinstance(part, str))])
        + ": "
    )


def _spelling(entry: Entry) -> str:
    if entry.written_key in (RUST_LOG_VARIABLE, DATABASE_VARIABLE):
        return entry.written_key
    return env_name(entry.written_key) if entry.origin.startswith(ENVIRONMENT) else entry.written_key


def _reason(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    template = _REASONS.get(kind)
    if template is not None:
        return template.format(**context)
    if kind == "value_error":
        return str(context["error"])
    message = error["msg"]
    return message[:1].lower() + message[1:]


_REASONS: Final = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list of texts",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "missing": "must be given",
    "extra_forbidden": "is not known here",
    "path_type": "must be a path",
    "is_instance_of": "must be a path",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "less_than_equal": "must be at most {le:.15g}",
    "literal_error": "must be one of {expected}",
    "string_too_short": "must not be empty",
    "both_or_neither": "{absent} must be set too: a certificate and its key come together",
}
