"""The limits of a store, made from the settings."""

from __future__ import annotations

from dataclasses import replace

from durable_streams.config import Config, LimitSettings
from durable_streams.config.traffic import PrefixDefaults
from durable_streams.protocol.requests import StreamLimits
from durable_streams.streams.batch import Limits
from durable_streams.streams.limits.quotas import Quota


def store_limits(config: Config) -> Limits:
    """All limits that the store itself keeps."""
    given = config.limits
    return Limits(
        memory_bytes_max=given.max_memory_bytes,
        pending_writes_max=given.max_pending_writes,
        messages_max=given.max_messages_per_request,
        streams_max=given.max_streams,
        of_stream=_of_stream(given, None),
        by_prefix={rule.prefix: _of_stream(given, rule) for rule in config.defaults.by_prefix},
        quotas=[Quota(each.prefix, each.max_bytes, each.max_streams) for each in config.quotas.stored],
    )


def _of_stream(given: LimitSettings, rule: PrefixDefaults | None) -> StreamLimits:
    """The limits for all streams, with what a rule for some of them says in their place."""
    general = StreamLimits(
        given.max_stream_bytes,
        given.producer_ttl_secs,
        given.max_producers_per_stream,
        given.max_forks_per_stream,
    )
    if rule is None:
        return general
    chosen = {
        "bytes_max": rule.max_stream_bytes,
        "producer_ttl_s": rule.producer_ttl_secs,
        "producers_max": rule.max_producers_per_stream,
        "forks_max": rule.max_forks_per_stream,
        "ttl_s": rule.ttl_secs,
    }
    return replace(general, **{name: value for name, value in chosen.items() if value is not None})
