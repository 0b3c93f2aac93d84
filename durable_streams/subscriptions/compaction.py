"""Histories that grow: begun anew, from a snapshot that means the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from durable_streams.eventloop.turns import yield_to_loop
from durable_streams.protocol.errors import DocumentChanged
from durable_streams.protocol.subscriptions import events
from durable_streams.protocol.subscriptions.state import Subscription
from durable_streams.subscriptions.linked_streams import LinkedStreams
from durable_streams.subscriptions.records import encode_step
from durable_streams.subscriptions.registry import FOLDER, Registry
from durable_streams.subscriptions.tracked import Tracked

COMPACT_BYTES: Final = 64 * 1024
"""How long a history grows, beyond twice its last snapshot, before it is begun anew."""


def is_long(tracked: Tracked) -> bool:
    """Whether the history should be begun anew."""
    return tracked.version is not None and tracked.version.size > 2 * tracked.snapshot_bytes + COMPACT_BYTES


def compact(registry: Registry, tracked: Tracked) -> None:
    """Begin the history anew, without the links of the pattern whose streams have gone."""
    with tracked.lock:
        if not tracked.exists:
            return
        registry.refresh(tracked)
        if not tracked.exists or not is_long(tracked):
            return
        tracked.apply((events.Dropped(tuple(_gone_links(registry.streams, tracked.sub))),))
        body = bytearray()
        for event in events.snapshot(tracked.sub):
            body += encode_step((event,))
            yield_to_loop()
        try:
            tracked.version = registry.histories.replace(FOLDER + tracked.id, bytes(body), tracked.version)
            tracked.snapshot_bytes = len(body)
        except DocumentChanged:
            # Another process was faster and has it longer still; it comes here too.
            return


def _gone_links(linked: LinkedStreams, sub: Subscription) -> Iterator[str]:
    for some, streams in linked.in_slices(sub.links):
        for path in some:
            stream = streams.get(path)
            link = sub.links[path]
            if not link.explicit and (stream is None or stream.config.uid != link.uid):
                yield path
