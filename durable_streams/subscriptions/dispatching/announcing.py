"""Messages that the server appends for a subscription: wake events, and letters about wakes that nobody could take.

Each is an append like any other, with the durability of the storage, and is there once: what is repeated after a crash
is recognised by its generation.
"""

from __future__ import annotations

import msgspec

from durable_streams.protocol.errors import StaleEpoch
from durable_streams.protocol.subscriptions import wire
from durable_streams.protocol.subscriptions.state import Subscription, Wake
from durable_streams.subscriptions.linked_streams import LinkedStreams


def announce_wake(streams: LinkedStreams, found: Subscription, wake: Wake, now: float) -> None:
    """Append the wake event (section 7.2); raises the ProtocolError that refuses it."""
    assert found.config.wake_stream is not None
    _append_once(streams, found.config.wake_stream, wire.wake_event(found, wake, now), found, wake)


def write_dead_letter(streams: LinkedStreams, found: Subscription, wake: Wake, now: float) -> None:
    """Append what has become of a condemned wake; raises the ProtocolError that refuses it."""
    assert found.config.dead_letter_stream is not None
    _append_once(streams, found.config.dead_letter_stream, wire.dead_letter(found, wake, now), found, wake)


def _append_once(
    streams: LinkedStreams, path: str, message: wire.Json, found: Subscription, wake: Wake
) -> None:
    body = msgspec.json.encode(message)
    # The time of its creation makes it another author than an earlier subscription of the same id.
    author = f"__ds/{message['type']}/{found.id}@{found.created_at:.6f}"
    try:
        streams.append_once(path, body, author, wake.generation)
    except StaleEpoch:
        # A later generation has been announced, so this one is no news.
        return
