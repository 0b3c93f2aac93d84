"""What a subscription is configured to do, and when two configurations are the same (section 6.2).

Fields that nobody declared are ignored, so that a configuration written for another server is accepted by this one.
The extensions of this server (docs/subscriptions.md) are off unless a configuration asks for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from durable_streams.protocol.subscriptions.errors import InvalidRequest
from durable_streams.protocol.subscriptions.ids import PathRules

WEBHOOK: Final = "webhook"
PULL_WAKE: Final = "pull-wake"
TAIL: Final = "tail"
BEGINNING: Final = "beginning"

LEASE_TTL_MS_MIN: Final = 1000
LEASE_TTL_MS_MAX: Final = 600_000
LEASE_TTL_MS_DEFAULT: Final = 30_000
BATCH_MS_MAX: Final = 60_000
ATTEMPTS_MAX: Final = 1000
DESCRIPTION_BYTES_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class SubscriptionConfig:
    """A normalised configuration: paths without outer slashes, ``streams`` sorted and each once, defaults filled in."""

    type: str
    pattern: str | None = None
    streams: tuple[str, ...] = ()
    webhook_url: str | None = None
    wake_stream: str | None = None
    lease_ttl_ms: int = LEASE_TTL_MS_DEFAULT
    description: str | None = None
    max_attempts: int | None = None
    """Extension: failures in a row after which the events of a wake go to ``dead_letter_stream``."""
    dead_letter_stream: str | None = None
    batch_ms: int = 0
    """Extension: how long the first pending event waits for others before it makes a wake."""
    start: str = TAIL
    """Extension: where existing streams are linked: `tail`, `beginning`, or an offset of the one stream."""
    on_close: bool = False
    """Extension: a linked stream that closes is pending, also when nothing was appended."""

    @property
    def lease_ttl_s(self) -> float:
        return self.lease_ttl_ms / 1000

    @property
    def channels(self) -> tuple[str, ...]:
        """The streams that the server itself appends to for this subscription."""
        return tuple(path for path in (self.wake_stream, self.dead_letter_stream) if path is not None)


def config_hash(config: SubscriptionConfig) -> str:
    """The text by which a repeated PUT is recognised. Extensions count only where they are used."""
    said = {field.name: getattr(config, field.name) for field in fields(config)}
    told = {name: value for name, value in said.items() if value not in (None, (), False)}
    text = json.dumps(told, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A PUT: the configuration, and whether the subscription shall rest (None: as it is). Resting is no part of the
    configuration, so that it can be changed by a PUT that is otherwise the same.
    """

    config: SubscriptionConfig
    paused: bool | None = None


def parse_config(document: object, paths: PathRules) -> Wanted:
    """The body of a PUT; raises InvalidRequest, naming the field. The webhook URL is judged elsewhere."""
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    kind = document.get("type")
    if kind not in (WEBHOOK, PULL_WAKE):
        raise InvalidRequest("type must be 'webhook' or 'pull-wake'")
    config = SubscriptionConfig(
        type=kind,
        pattern=_pattern(document, paths),
        streams=parse_streams(document, paths),
        lease_ttl_ms=_integer(document, "lease_ttl_ms", LEASE_TTL_MS_MIN, LEASE_TTL_MS_MAX)
        or LEASE_TTL_MS_DEFAULT,
        description=_description(document),
        max_attempts=_integer(document, "max_attempts", 1, ATTEMPTS_MAX),
        dead_letter_stream=_path(document, "dead_letter_stream", paths),
        batch_ms=_integer(document, "batch_ms", 0, BATCH_MS_MAX) or 0,
        start=_text(document, "start") or TAIL,
        on_close=_boolean(document, "on_close") or False,
    )
    config = _with_delivery(config, document, paths)
    _check_together(config)
    return Wanted(config, _boolean(document, "paused"))


def parse_streams(document: Mapping[str, Any], paths: PathRules) -> tuple[str, ...]:
    """The member `streams` of a body, sorted and each once; absent, null and empty are the same."""
    streams = document.get("streams")
    if streams is None:
        return ()
    if not isinstance(streams, list):
        raise InvalidRequest("streams must be an array of stream paths")
    return tuple(sorted({paths.check(path, "streams") for path in streams}))


def _with_delivery(
    config: SubscriptionConfig, document: Mapping[str, Any], paths: PathRules
) -> SubscriptionConfig:
    """How wakes are delivered; what belongs to the other type is ignored."""
    if config.type == PULL_WAKE:
        wake_stream = _path(document, "wake_stream", paths)
        if wake_stream is None:
            raise InvalidRequest("wake_stream is required for type 'pull-wake'")
        return replace(config, wake_stream=wake_stream)
    webhook = document.get("webhook")
    if not isinstance(webhook, dict) or not isinstance(webhook.get("url"), str):
        raise InvalidRequest("webhook.url is required for type 'webhook' and must be a string")
    return replace(config, webhook_url=webhook["url"])


def _check_together(config: SubscriptionConfig) -> None:
    if config.pattern is None and not config.streams:
        raise InvalidRequest("pattern or streams is required")
    if (config.max_attempts is None) != (config.dead_letter_stream is None):
        raise InvalidRequest("max_attempts and dead_letter_stream belong together")
    for channel in config.channels:
        if channel in config.streams:
            raise InvalidRequest(f"streams: {channel!r} is written by the subscription itself")
    if config.start not in (TAIL, BEGINNING) and (config.pattern is not None or len(config.streams) != 1):
        raise InvalidRequest("start may be an offset only for exactly one stream and no pattern")


def _pattern(document: Mapping[str, Any], paths: PathRules) -> str | None:
    pattern = _text(document, "pattern")
    trimmed = pattern.strip("/") if pattern is not None else ""
    return paths.check(trimmed, "pattern") if trimmed else None


def _path(document: Mapping[str, Any], name: str, paths: PathRules) -> str | None:
    value = document.get(name)
    return None if value is None else paths.check(value, name)


def _description(document: Mapping[str, Any]) -> str | None:
    description = _text(document, "description")
    if description is not None and len(description.encode("utf-8")) > DESCRIPTION_BYTES_MAX:
        raise InvalidRequest(f"description is longer than {DESCRIPTION_BYTES_MAX} bytes")
    return description


def _text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidRequest(f"{name} must be a string")
    return value


def _integer(document: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise InvalidRequest(f"{name} must be an integer from {least} to {most}")
    return value


def _boolean(document: Mapping[str, Any], name: str) -> bool | None:
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false")
    return value
