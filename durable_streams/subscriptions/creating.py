"""Making a subscription: the streams that exist are linked where they are now, and none is lost in between (6.2).

The place of the new subscription is taken before the first stream is looked at, so each change of a stream from then
on is noticed; when the subscription is recorded, what was noticed is looked at once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from durable_streams.eventloop.turns import yield_to_loop
from durable_streams.protocol.errors import DocumentChanged, Unavailable
from durable_streams.protocol.state import StreamState
from durable_streams.protocol.subscriptions import events
from durable_streams.protocol.subscriptions.config import TAIL, SubscriptionConfig, Wanted
from durable_streams.protocol.subscriptions.deciding import first_link
from durable_streams.protocol.subscriptions.errors import InvalidRequest, SubscriptionLimit
from durable_streams.protocol.subscriptions.requests import Confirm
from durable_streams.protocol.subscriptions.state import Link, Subscription
from durable_streams.streams.internal.histories import Version
from durable_streams.subscriptions.records import encode_step
from durable_streams.subscriptions.registry import CHANGES_MAX, FOLDER, Registry
from durable_streams.subscriptions.tracked import Tracked

_NOBODY_ELSE: Final = "the subscription is made and deleted too often"


class Creator:
    """Creates and confirms the subscriptions of a registry."""

    def __init__(self, registry: Registry, subscriptions_max: int, links_max: int) -> None:
        self._registry = registry
        self._subscriptions_max = subscriptions_max
        self.links_max = links_max

    def confirm_or_create(self, subscription_id: str, wanted: Wanted, root: str) -> bool:
        """PUT of a subscription: True when it is new, False when it was there with the same configuration.

        Raises SubscriptionExists, SubscriptionLimit or InvalidRequest. The webhook URL has been checked.
        """
        registry = self._registry
        for _ in range(CHANGES_MAX):
            if registry.find(subscription_id) is not None:
                registry.update(subscription_id, Confirm(wanted))
                return False
            if len(registry) >= self._subscriptions_max:
                raise SubscriptionLimit(f"There may be {self._subscriptions_max} subscriptions")
            place = registry.reserve(subscription_id)
            with place.lock:
                if registry.is_reserved(place) and self._fill(place, wanted, root):
                    return True
        raise Unavailable(_NOBODY_ELSE)

    def _fill(self, place: Tracked, wanted: Wanted, root: str) -> bool:
        """Make the subscription in its reserved place; False when another process was faster."""
        registry = self._registry
        created = self._created(place.id, wanted, root)
        forming = _forming(created)
        place.noticed = {}
        registry.index.add(forming)
        try:
            version = self._record(created, forming)
        except BaseException as exc:
            registry.index.remove(forming)
            registry.discard(place)
            if isinstance(exc, DocumentChanged):
                return False
            raise
        registry.tombstones.forget(place.id)
        noticed, place.noticed = place.noticed, None
        place.begin(forming, version, version.size)
        # Links that begin at the tail are pending only by what has come since.
        registry.look_at(place, noticed if wanted.config.start == TAIL else {**forming.links, **noticed})
        registry.on_change(place)
        return True

    def _created(self, subscription_id: str, wanted: Wanted, root: str) -> events.Created:
        tombstone = self._registry.tombstones.get(subscription_id)
        generation = tombstone.generation if tombstone else 0
        now = self._registry.clock()
        return events.Created(subscription_id, wanted.config, now, root, generation, wanted.paused or False)

    def _record(self, created: events.Created, forming: Subscription) -> Version:
        """Link ``forming`` to its streams and make it durable; raises DocumentChanged when it is there already."""
        self._check_channels(created.config)
        body = bytearray(encode_step((created,)))
        for linked in events.linked(self._first_links(forming)):
            events.apply(forming, linked)
            body += encode_step((linked,))
        tombstone = self._registry.tombstones.get(created.id)
        known = tombstone.version if tombstone else None
        return self._registry.histories.replace(FOLDER + created.id, bytes(body), known)

    def _check_channels(self, config: SubscriptionConfig) -> None:
        """What the server will append to is there, is open and takes JSON."""
        for path in config.channels:
            stream = self._registry.streams.current(path)
            if stream is None:
                raise InvalidRequest(f"the stream {path!r} does not exist: create it first")
            if stream.closed:
                raise InvalidRequest(f"the stream {path!r} is closed")
            if not stream.config.is_json:
                raise InvalidRequest(
                    f"the stream {path!r} is {stream.config.content_type}, not application/json"
                )

    def _first_links(self, forming: Subscription) -> Iterator[Link]:
        """A link for each explicit stream, and for each one that the pattern matches."""
        situation = self._registry.streams.situation(self._registry.clock(), {})
        start = forming.config.start
        for count, (path, stream) in enumerate(self._streams_of(forming), 1):
            if count > self.links_max:
                raise SubscriptionLimit(f"A subscription may have {self.links_max} links")
            explicit = path in forming.config.streams
            if stream is None:
                yield Link(path, None, 0, explicit)
            else:
                yield first_link(path, stream, start, situation)._replace(explicit=explicit)

    def _streams_of(self, forming: Subscription) -> Iterator[tuple[str, StreamState | None]]:
        registry = self._registry
        explicit = forming.config.streams
        for some, streams in registry.streams.in_slices(explicit):
            for path in some:
                yield path, streams.get(path)
        if forming.glob is None:
            return
        yield_to_loop()
        told = frozenset(explicit)
        for names, streams in registry.streams.named(forming.glob.prefix):
            for path in names:
                matches = path in streams and path not in told and forming.matches(path)
                if matches and registry.index.may_match(path):
                    yield path, streams[path]


def _forming(created: events.Created) -> Subscription:
    """The subscription before its streams were looked at; its explicit links are to be replaced by real ones."""
    forming = Subscription(created.id, created.config, created.at, created.root, created.generation)
    forming.paused = created.paused
    forming.links = {path: Link(path, None, 0, explicit=True) for path in created.config.streams}
    return forming
