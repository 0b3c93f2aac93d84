"""A file that a running server follows: what it says now, or what it said before where it cannot be read."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final, Generic, TypeVar

LOOK_INTERVAL_S: Final = 1.0
"""How late a running server notices that the file has changed."""

T = TypeVar("T")

log = logging.getLogger("durable_streams.access")


class FileDamaged(Exception):
    """The file is not what it should be; the message names it and says why."""


class WatchedFile(Generic[T]):
    """The value that ``read`` makes of the file; another object when the file has changed."""

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        """``read`` raises FileDamaged or OSError, which this raises too."""
        self._path = path
        self._read = read
        self._seen = _mark(path)
        self._look_at = monotonic() + LOOK_INTERVAL_S
        self._value = read(path)

    def current(self) -> T:
        """The newest value that could be read."""
        if monotonic() >= self._look_at:
            self.look()
        return self._value

    def look(self) -> None:
        """Take over a changed file now."""
        self._look_at = monotonic() + LOOK_INTERVAL_S
        mark = _mark(self._path)
        if mark == self._seen:
            return
        self._seen = mark
        try:
            self._value = self._read(self._path)
        except (FileDamaged, OSError) as exc:
            log.error("the contents of before stay in force: %s", exc)


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
