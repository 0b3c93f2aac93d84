"""A stream as an operator sees it: one JSON object."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from durable_streams.protocol.state import StreamState

Json = dict[str, Any]


def stream_document(state: StreamState, messages: int | None, live_readers: int) -> Json:
    """``messages``: None where they are not counted. Bytes are stored ones; ``own_bytes`` leaves out the source's."""
    config, expiry, fork = state.config, state.config.expiry, state.config.fork
    return {
        "name": config.name,
        "content_type": config.content_type,
        "bytes": state.tail,
        "own_bytes": state.own_bytes,
        "messages": messages,
        "offset": state.next_offset,
        "created_at": timestamp(config.life / 1_000_000),
        "touched_at": timestamp(state.touched_at),
        "ttl_secs": expiry.ttl_s,
        "expires_at": expiry.expires_at_text,
        "closed": state.closed,
        "deleted": state.deleted,
        "forks": len(state.forks),
        "producers": len(state.producers),
        "live_readers": live_readers,
        "forked_from": None if fork is None else {"name": fork.source, "position": fork.position},
    }


def damaged_document(name: str, reason: str) -> Json:
    """A stream whose state cannot be read."""
    return {"name": name, "damaged": reason}


def timestamp(at: float) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
