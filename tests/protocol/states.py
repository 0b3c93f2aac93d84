"""A stream's state in one line, for the tables of this folder."""

from __future__ import annotations

from typing import Any

from durable_streams.protocol.state import (
    NO_EXPIRY,
    Expiry,
    ForkPoint,
    ForkReference,
    StreamConfig,
    StreamState,
)

NOW = 1_800_000_000.0
"""The clock of these tests: seconds since 1970, in 2027."""
LIFE = 1_800_000_000_000_000
"""The life of every stream made here: created at NOW."""


def stream(
    tail: int = 0,
    *,
    name: str = "s",
    content_type: str = "text/plain",
    expiry: Expiry = NO_EXPIRY,
    fork: ForkPoint | None = None,
    uid: str = "i",
    touched_at: float = NOW,
    life: int = LIFE,
    **more: Any,
) -> StreamState:
    """A stream of ``tail`` bytes, created and last written at NOW unless told otherwise."""
    config = StreamConfig(name, uid, content_type, expiry, fork, life)
    return StreamState(config, tail, touched_at, **more)


def references(*uids: str, taken_at: float = NOW) -> dict[str, ForkReference]:
    """Of forks with these uids."""
    return {uid: ForkReference(f"name of {uid}", taken_at) for uid in uids}
