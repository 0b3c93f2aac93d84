"""The effective configuration as TOML with the source of each value, and the page docs/settings.md.

The dump can be saved and read again with `--config`; secrets are masked in it. The page is written by
`python -m durable_streams.config.rendering > docs/settings.md`, and a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, get_args, get_origin

from durable_streams.config.configuration import SETTINGS, Config, Setting, section_models
from durable_streams.config.declaring import Section
from durable_streams.config.errors import MASK, escape_line
from durable_streams.config.reloading import RELOADABLE
from durable_streams.storage.modes import MODE_ALIASES

_SOURCE_COLUMN: Final = 44


def effective_toml(config: Config) -> str:
    """Every setting with its value and, as a comment, where that came from."""
    lines: list[str] = []
    for section, _ in section_models():
        lines += ["", f"[{section}]"] if lines else [f"[{section}]"]
        lines += [_dump_line(config, declared) for declared in _of_section(section)]
    return "\n".join(lines) + "\n"


def _dump_line(config: Config, declared: Setting) -> str:
    name = declared.key.partition(".")[2]
    value = config.value_of(declared.key)
    source = escape_line(config.source_of(declared.key))
    if value is None:
        return f"{f'# {name} is not set':<{_SOURCE_COLUMN}} # {source}"
    text = toml_value(MASK if declared.secret and value else value)
    return f"{f'{name} = {text}':<{_SOURCE_COLUMN}} # {source}"


def toml_value(value: Any) -> str:
    """A setting's value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Section):
        fields = value.model_dump(exclude_none=True, exclude_defaults=True)
        return "{ " + ", ".join(f"{name} = {toml_value(part)}" for name, part in fields.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def settings_page() -> str:
    """The text of docs/settings.md."""
    parts = [_INTRODUCTION]
    for section, model in section_models():
        rows = "\n".join(_table_row(declared) for declared in _of_section(section))
        parts.append(f"## `[{section}]`\n\n{model.__doc__}{_on_reload(section)}\n\n{_TABLE_HEAD}\n{rows}\n")
    return "\n".join([*parts, _other_names()])


def _on_reload(section: str) -> str:
    """Which of the settings SIGHUP takes over."""
    names = [declared.key for declared in _of_section(section)]
    fixed = [name for name in names if name not in RELOADABLE]
    if not fixed:
        return " SIGHUP takes over all of them."
    if len(fixed) == len(names):
        return " A change needs a restart."
    listed = ", ".join(f"`{name}`" for name in fixed)
    return f"\nSIGHUP takes over all but {listed}: a change of those needs a restart."


def _table_row(declared: Setting) -> str:
    default = "not set" if declared.default is None else f"`{toml_value(declared.default)}`"
    cells = [
        f"`{declared.key}`",
        f"`{declared.env_name}`",
        "size" if declared.unit == "bytes" else _type_text(declared.field.annotation),
        default,
        declared.unit,
        declared.sentence,
    ]
    return "| " + " | ".join(cells).replace("|  |", "| |") + " |"


def _type_text(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        is_text = get_args(annotation)[0] is str
        return "list of text" if is_text else "list of tables"
    if isinstance(annotation, UnionType):
        annotation = next(member for member in get_args(annotation) if member is not type(None))
    return _TYPE_NAMES[annotation]


_TYPE_NAMES: Final[dict[Any, str]] = {
    int: "whole number",
    float: "number",
    bool: "`true`, `false`",
    str: "text",
    Path: "path",
}


def _other_names() -> str:
    aliases = [(alias, declared.key) for declared in SETTINGS.values() for alias in declared.aliases]
    aliases.append(("server.bind_address", "server.host` and `server.port"))
    rows = "\n".join(f"| `{alias}` | `{key}` |" for alias, key in sorted(aliases))
    modes = ", ".join(f"`{alias}` means `{name}`" for alias, name in sorted(MODE_ALIASES.items()))
    return f"{_OTHER_NAMES.format(modes=modes)}\n{rows}\n"


def _of_section(section: str) -> Iterator[Setting]:
    return (declared for declared in SETTINGS.values() if declared.key.startswith(section + "."))


_INTRODUCTION: Final = """\
# Settings

<!-- Written by `python -m durable_streams.config.rendering > docs/settings.md`; a test compares the two. -->

Each layer overrides the one before it:

1. built-in defaults,
2. `config/default.toml`,
3. `config/<profile>.toml`, when a profile is named by `--profile` or `DS_PROFILE`,
4. `config/local.toml`, which is not under version control,
5. the file named by `--config` or `DS_CONFIG`,
6. environment variables: `DS_`, the section, two underscores, the name (`DS_SERVER__PORT`). Lists are
   separated by commas; a list of tables is written as in TOML: `[{prefix = "a/", ttl_secs = 60}]`.
7. the options `--host`, `--port`, `--mode` and `--data-dir` of `durable-streams-server`.

A size is a number of bytes, or a text with a unit: `"512KiB"`, `"100MiB"`, `"2GB"` (kB, MB, GB and TB are powers of
1000; KiB, MiB, GiB and TiB are powers of 1024).

`config/` is the folder in the working directory. The installed package carries the profiles `dev` and `prod`, which are
used where `config/` has no file of that name. A file there belongs to another program when none of its tables is one of
this server's: it is ignored, with a line in the log. The files that are used are named in the log too.

`RUST_LOG` overrides `log.rust_log`, wherever that was set. `durable-streams-server config` prints the
effective values and where each came from. An unknown key or a wrong value stops the start with one line that
names it. Variables that begin with `DS_TEST_` or `DS_BENCH_` are left to the tests and benchmarks, and those
that Kubernetes sets for a service named `ds` are ignored.
"""

_TABLE_HEAD: Final = """\
| Key | Variable | Type | Default | Unit | |
| --- | --- | --- | --- | --- | --- |"""

_OTHER_NAMES: Final = """\
## Other names

Settings that go by another name in other servers of the protocol; both names work, in files and as variables.
Storage modes too: {modes}.

| Name | The same as |
| --- | --- |"""

if __name__ == "__main__":
    print(settings_page(), end="")
