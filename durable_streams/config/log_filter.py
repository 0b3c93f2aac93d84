"""The log filter in the way of RUST_LOG: which level each target is logged at.

`info`, `warn,durable_streams=debug`, `off`, `durable_streams.request=error`. Targets match by dotted prefix,
the longest match wins, and `::` is read as `.`. Filters on spans and fields are refused rather than ignored.
"""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass
from typing import Final

TRACE: Final = 5
OFF: Final = logging.CRITICAL + 10
LEVELS: Final = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "off": OFF,
}

OUR_TARGET: Final = "durable_streams"
# The Rust server's crate has another name; a filter written for it keeps its meaning here.
TARGET_ALIASES: Final = {"durable_streams_server": OUR_TARGET}


@dataclass(frozen=True, slots=True)
class LogFilter:
    """A parsed filter. `default_level` holds for targets that no directive names."""

    default_level: int
    directives: tuple[tuple[str, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> LogFilter:
        """The filter that `text` describes. Raises ValueError with a reason that names the part at fault."""
        default_level = logging.ERROR
        directives: dict[str, int] = {}
        for part in (part.strip() for part in text.split(",")):
            if not part:
                continue
            target, level = _directive(part)
            if target is None:
                default_level = level
            else:
                directives[target] = level
        longest_first = sorted(directives.items(), key=lambda item: -len(item[0]))
        return cls(default_level, tuple(longest_first))

    def level_for(self, target: str) -> int:
        """The lowest logging level that is let through for `target`.

        Libraries log at `info` about their own housekeeping, so a bare level speaks of this server;
        others stay at `warn` unless they are named.
        """
        for prefix, level in self.directives:
            if target == prefix or target.startswith(prefix + "."):
                return level
        if _is_ours(target):
            return self.default_level
        return max(self.default_level, logging.WARNING)

    @property
    def lowest_level(self) -> int:
        """The lowest level that any target is logged at."""
        return min([self.default_level, *(level for _, level in self.directives)])


def _directive(part: str) -> tuple[str | None, int]:
    if any(char in part for char in "[]{}"):
        raise ValueError(f"filters on spans and fields are not supported: {part!r}")
    target, equals, level_name = part.partition("=")
    if not equals:
        return _bare_word(part)
    level = LEVELS.get(level_name.strip().lower())
    if level is None:
        raise ValueError(f"{level_name.strip()!r} is not one of {', '.join(LEVELS)}")
    return _target(target), level


def _bare_word(word: str) -> tuple[str | None, int]:
    """A level, or a target alone, which means all of its levels. A misspelt level must not pass for a
    target.
    """
    level = LEVELS.get(word.lower())
    if level is not None:
        return None, level
    if "." in word or ":" in word or _target(word) in (OUR_TARGET, "gunicorn", "gevent", "flask"):
        return _target(word), TRACE
    nearest = difflib.get_close_matches(word.lower(), LEVELS, n=1)
    hint = f", did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(f"{word!r} is neither a level nor target=level{hint}")


def _target(text: str) -> str:
    root, dot, rest = text.strip().replace("::", ".").partition(".")
    if not root:
        raise ValueError(f"a directive has no target before '=': {text!r}")
    return TARGET_ALIASES.get(root, root) + dot + rest


def _is_ours(target: str) -> bool:
    return target == OUR_TARGET or target.startswith(OUR_TARGET + ".")
