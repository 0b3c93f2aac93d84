"""The JSON that subscriptions speak: what clients are shown, what receivers and wake streams are sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from durable_streams.protocol.state import StreamState
from durable_streams.protocol.subscriptions.config import TAIL, SubscriptionConfig
from durable_streams.protocol.subscriptions.requests import Situation
from durable_streams.protocol.subscriptions.state import Entry, Subscription, Wake

ZERO_OFFSET: Final = f"{0:016d}_{0:016d}"
"""The start of every stream: the cursor in one that is not there, or that was found later."""

Json = dict[str, Any]


def timestamp(at: float) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def acked_offset(found: Subscription, path: str, stream: StreamState | None, situation: Situation) -> str:
    """The cursor as the text that clients have (section 6.1)."""
    if stream is None:
        return ZERO_OFFSET
    link = found.link_of(path, stream)
    if link.position == 0 and link is not found.links.get(path):
        return ZERO_OFFSET
    return situation.offset_at(stream, link.position)


def link_document(found: Subscription, path: str, stream: StreamState | None, situation: Situation) -> Json:
    return {
        "path": path,
        "link_type": "explicit" if found.is_explicit(path) else "glob",
        "acked_offset": acked_offset(found, path, stream, situation),
    }


def wake_streams(
    found: Subscription, entries: Iterable[Entry], others: Iterable[str], situation: Situation
) -> Iterator[Json]:
    """The streams of a wake: the pending ones of its snapshot, then the other linked ones, which are up to date."""
    told = set()
    for entry in entries:
        told.add(entry.path)
        stream = situation.stream(entry.path)
        same = stream if stream is not None and stream.config.uid == entry.uid else None
        item = link_document(found, entry.path, same, situation)
        item |= {"tail_offset": entry.offset, "has_pending": True}
        yield item | _end(found.config, entry.closed)
    for path in others:
        if path not in told:
            stream = situation.stream(path)
            item = link_document(found, path, stream, situation)
            item |= {"tail_offset": item["acked_offset"], "has_pending": False}
            yield item | _end(found.config, stream is not None and stream.closed)


def _end(config: SubscriptionConfig, closed: bool) -> Json:
    """Extension ``on_close`` alone has a sixth field."""
    return {"closed": closed} if config.on_close else {}


def wake_event(found: Subscription, wake: Wake, now: float) -> Json:
    """What a wake stream is appended (section 7.2)."""
    return {
        "type": "wake",
        "subscription_id": found.id,
        "stream": wake.trigger,
        "generation": wake.generation,
        "ts": int(now * 1000),
    }


def dead_letter(found: Subscription, wake: Wake, now: float) -> Json:
    """Extension ``max_attempts``: what the dead-letter stream is appended, one message for a condemned wake."""
    return {
        "type": "dead-letter",
        "subscription_id": found.id,
        "wake_id": wake.id,
        "generation": wake.generation,
        "streams": [{"path": entry.path, "tail_offset": entry.offset} for entry in wake.entries],
        "attempts": found.failures,
        "error": found.last_error,
        "ts": int(now * 1000),
    }


def config_document(config: SubscriptionConfig) -> Json:
    """What both kinds of answers say of the configuration; extensions stand there when they are used."""
    document: Json = {
        "type": config.type,
        "pattern": config.pattern,
        "webhook": None if config.webhook_url is None else {"url": config.webhook_url},
        "wake_stream": config.wake_stream,
        "lease_ttl_ms": config.lease_ttl_ms,
        "description": config.description,
    }
    if config.max_attempts is not None:
        document |= {"max_attempts": config.max_attempts, "dead_letter_stream": config.dead_letter_stream}
    if config.batch_ms:
        document["batch_ms"] = config.batch_ms
    if config.start != TAIL:
        document["start"] = config.start
    if config.on_close:
        document["on_close"] = True
    return document


def subscription_document(found: Subscription, streams_behind: int, bytes_behind: int) -> Json:
    """Section 6.3 without the member `streams`; every member is there, null where it is unset.

    What follows ``description`` is this server's: how many linked streams are pending, with how many stored bytes
    beyond their cursors, and how the delivery goes.
    """
    wake = found.wake
    return {
        "id": found.id,
        "subscription_id": found.id,
        **config_document(found.config),
        "created_at": timestamp(found.created_at),
        "status": "failed" if found.is_failing else "active",
        "paused": found.paused,
        "generation": found.generation,
        "lag": {"streams": streams_behind, "bytes": bytes_behind},
        "attempts": found.failures,
        "last_error": found.last_error,
        "next_attempt_at": timestamp(wake.next_attempt_at) if wake and wake.next_attempt_at else None,
        "wake": None if wake is None else wake_document(wake),
    }


def wake_document(wake: Wake) -> Json:
    return {
        "wake_id": wake.id,
        "phase": wake.phase.value,
        "stream": wake.trigger,
        "issued_at": timestamp(wake.issued_at),
        "holder": wake.holder,
        "lease_until": timestamp(wake.lease_until) if wake.lease_until else None,
    }
