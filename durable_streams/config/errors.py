"""The one exception of the configuration, and the single line that it prints.

It carries everything a person needs to find the mistake: the key, the value, the reason, the place it was
read from and the nearest known key. The caller that starts the server decides
what happens then (exit code, log record).
"""

from __future__ import annotations

from typing import Final

LOAD_CONFIG: Final = "load_config"
VALIDATE_CONFIG: Final = "validate_config"
CHECK_TLS_FILES: Final = "check_tls_files"
BUILD_TLS_CONTEXT: Final = "build_tls_context"

VALUE_SHOWN_CHARS_MAX: Final = 80
MASK: Final = "********"


class ConfigError(Exception):
    """A configuration that must not be used; `str()` is one line without line breaks.

    `phase` is the startup phase that found it. `key` is the dotted name as the user wrote it, `value` its
    text (already masked when secret), `origin` a file path or an environment variable; each may be
    absent.
    """

    def __init__(
        self,
        reason: str,
        *,
        phase: str = VALIDATE_CONFIG,
        key: str | None = None,
        value: str | None = None,
        origin: str | None = None,
        nearest: str | None = None,
    ) -> None:
        self.reason = reason
        self.phase = phase
        self.key = key
        self.value = value
        self.origin = origin
        self.nearest = nearest
        super().__init__(self._line())

    def _line(self) -> str:
        subject = self.key or ""
        if self.value is not None:
            subject = f"{subject} = {self.value}"
        line = f"{subject}: {self.reason}" if subject else self.reason
        if self.origin is not None:
            line += f" (from {self.origin})"
        if self.nearest is not None:
            line += f"; did you mean {self.nearest}?"
        return escape_line(line)


def escape_line(text: str) -> str:
    """`text` with every control character and line separator written as an escape, so it can never span two
    lines.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def quote_value(value: object) -> str:
    """A value as an error line shows it: quoted, and cut when it is long."""
    text = repr(value)
    if len(text) <= VALUE_SHOWN_CHARS_MAX:
        return text
    return text[:VALUE_SHOWN_CHARS_MAX] + "..."
