"""Subscriptions as JSON for clients. One may have very many links, so they are rendered in pieces."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from durable_streams.eventloop.turns import yield_to_loop
from durable_streams.protocol.subscriptions import wire
from durable_streams.subscriptions.linked_streams import SLICE
from durable_streams.subscriptions.registry import Registry
from durable_streams.subscriptions.tracked import Tracked

encode = msgspec.json.encode
"""Of what the functions of this module return."""


def summary(tracked: Tracked, signing: wire.Json | None) -> wire.Json:
    """A subscription without its streams. ``signing``: how a receiver verifies its webhooks."""
    document = wire.subscription_document(tracked.sub, len(tracked.behind), _bytes_behind(tracked))
    if signing is not None and document["webhook"] is not None:
        document["webhook"]["signing"] = signing
    return document


def whole(tracked: Tracked, registry: Registry, signing: wire.Json | None) -> wire.Json:
    """A subscription as section 6.3 shows it."""
    document = summary(tracked, signing)
    document["streams"] = _array(_link_pieces(tracked, registry))
    return document


def _link_pieces(tracked: Tracked, registry: Registry) -> Iterable[bytes]:
    """The links in the order of their paths, some of them in each piece."""
    for paths, streams in registry.streams.in_slices(sorted(tracked.linked_paths())):
        if not tracked.exists:
            return
        situation = registry.streams.situation(registry.clock(), tracked.behind, streams.get)
        links = [
            wire.link_document(tracked.sub, path, streams.get(path), situation)
            for path in paths
            # A link of the pattern ends with its stream.
            if path in streams or tracked.sub.is_explicit(path)
        ]
        if links:
            yield encode(links)[1:-1]


def _array(pieces: Iterable[bytes]) -> msgspec.Raw:
    return msgspec.Raw(b"[" + b",".join(pieces) + b"]")


def _bytes_behind(tracked: Tracked) -> int:
    total = 0
    for index, (path, stream) in enumerate(list(tracked.behind.items()), 1):
        total += stream.tail - tracked.sub.link_of(path, stream).position
        if index % SLICE == 0:
            yield_to_loop()
    return total
