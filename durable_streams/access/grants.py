"""Grants: scopes over the streams whose names match a glob."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Final

from durable_streams.protocol.subscriptions.globs import Glob

READ: Final = "read"
WRITE: Final = "write"
CREATE: Final = "create"
DELETE: Final = "delete"
ADMIN: Final = "admin"
SCOPES: Final = (READ, WRITE, CREATE, DELETE, ADMIN)
"""None includes another. ``admin`` is for the server itself: subscriptions and metrics."""
EVERYTHING: Final = "**"
LIVE_ACCESS: Final = "durable_streams.live_access"
"""The key of the environ that holds the LiveAccess of a live read, where a gate limits it."""
DECISIONS_KEPT: Final = 8192
"""Pairs of a grant and a name whose match is remembered."""


class Grant:
    """What somebody may do, and until when."""

    def __init__(
        self, principal: str, scopes: Iterable[str], streams: Iterable[str], expires_at: float | None
    ) -> None:
        """``streams``: globs. ``expires_at``: seconds since 1970, None for never."""
        self.principal = principal
        self.scopes = frozenset(scopes)
        self.expires_at = float("inf") if expires_at is None else expires_at
        self._globs = [Glob(pattern) for pattern in streams]

    def allows(self, scope: str, name: str) -> bool:
        """Whether it has ``scope`` for the stream ``name``, or for a reserved path, which stands for the server."""
        return scope in self.scopes and _matches(self, name)

    def matches(self, name: str) -> bool:
        """Whether it is about the stream ``name``."""
        return any(glob.matches(name) for glob in self._globs)


def check_pattern(pattern: str) -> str:
    """The pattern; raises ValueError for one that could match no stream as it is meant."""
    segments = pattern.split("/")
    if not pattern.isprintable() or "" in segments:
        raise ValueError("a pattern is a stream name whose segments may be * (one) or ** (any number)")
    if any("*" in segment and segment not in ("*", EVERYTHING) for segment in segments):
        raise ValueError("a wildcard is a whole segment: * (one) or ** (any number)")
    return pattern


@lru_cache(DECISIONS_KEPT)
def _matches(grant: Grant, name: str) -> bool:
    # A grant never changes, and is another object when the file that it came from has changed.
    return grant.matches(name)


@dataclass(frozen=True, slots=True)
class LiveAccess:
    """How long a live read may last. ``until``: of ``monotonic``. ``is_valid``: asked when its reader wakes."""

    until: float
    is_valid: Callable[[], bool]

    @property
    def is_open(self) -> bool:
        """Whether the reader may still be given something."""
        return monotonic() < self.until and self.is_valid()

    def look_every(self, seconds: float) -> float:
        """How long a reader may wait before it asks again; one that nobody limits asks never."""
        return seconds if self is not UNLIMITED else float("inf")


UNLIMITED: Final = LiveAccess(float("inf"), lambda: True)
