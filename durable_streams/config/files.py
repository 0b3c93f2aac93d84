"""The configuration files that are found by their place, and whether they are ours.

`config/` in the working directory may belong to another program. A file there is ignored, and reported, when no name
at its top level is, or resembles, a table of this server. The profiles of the installed package are read where
`config/` has none of that name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

from durable_streams.config.errors import LOAD_CONFIG, ConfigError, quote_value
from durable_streams.config.layers import TABLES, Entry, read_toml, toml_layer

LOCAL: Final = "local"
TABLE_LIKENESS_MIN: Final = 0.8
_PROFILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PACKAGED: Final = Path(str(files("durable_streams.config") / "profiles"))


class ConfigFolder:
    """`config/` below the directory `root`."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "config"
        self.ignored: list[str] = []
        """The files that belong to another program."""

    def layer_if_ours(self, name: str) -> Iterator[dict[str, Entry]]:
        """The layer of `config/NAME.toml` where that is a file of this server, else nothing.

        Raises ConfigError when the file cannot be read or parsed, or has unknown keys beside known tables.
        """
        path = self._folder / f"{name}.toml"
        if not path.exists():
            return
        document = read_toml(path)
        if document and not any(map(_resembles_a_table, document)):
            self.ignored.append(str(path))
        else:
            yield toml_layer(document, str(path))

    def profile(self, name: str) -> dict[str, Entry]:
        """The layer of a profile that somebody asked for by name; the package's own where `config/` has none.

        Raises ConfigError when there is neither.
        """
        if not _PROFILE_NAME.fullmatch(name):
            raise _profile_error(name, "a profile is named with letters, digits, '-' and '_'")
        for layer in self.layer_if_ours(name):
            return layer
        packaged = _PACKAGED / f"{name}.toml"
        if name != LOCAL and packaged.is_file():
            return toml_layer(read_toml(packaged), str(packaged))
        nearest = difflib.get_close_matches(name, self._known_profiles(), n=1)
        raise _profile_error(
            name, f"there is no file {self._folder / name}.toml", nearest[0] if nearest else None
        )

    def _known_profiles(self) -> list[str]:
        found = [path.stem for folder in (self._folder, _PACKAGED) for path in folder.glob("*.toml")]
        return sorted(set(found) - {LOCAL})


def _resembles_a_table(name: str) -> bool:
    """A misspelt table of this server is an error; it does not make the file another program's."""
    return bool(difflib.get_close_matches(name, TABLES, n=1, cutoff=TABLE_LIKENESS_MIN))


def _profile_error(name: str, reason: str, nearest: str | None = None) -> ConfigError:
    return ConfigError(reason, phase=LOAD_CONFIG, key="profile", value=quote_value(name), nearest=nearest)
