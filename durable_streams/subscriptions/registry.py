"""All subscriptions of this process: loaded from their histories, changed by decisions, woken by their streams.

A change is decided on what is recorded now, added to the history in one commit, and only then applied here. In a
storage that several processes share, another one may have changed the subscription: then the history is not at the
version that this process knows, and what was added is read and applied first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from durable_streams.eventloop.turns import yield_to_loop
from durable_streams.protocol.errors import DocumentChanged, StreamDamaged, Unavailable
from durable_streams.protocol.state import StreamState
from durable_streams.protocol.subscriptions import events
from durable_streams.protocol.subscriptions.deciding import Decision, decide
from durable_streams.protocol.subscriptions.errors import SubscriptionNotFound
from durable_streams.protocol.subscriptions.requests import Request, Situation
from durable_streams.protocol.subscriptions.retrying import resume
from durable_streams.protocol.subscriptions.state import Subscription
from durable_streams.streams.internal.histories import Histories, History, Version
from durable_streams.subscriptions.inbox import Inbox
from durable_streams.subscriptions.linked_streams import LinkedStreams
from durable_streams.subscriptions.links import LinkIndex
from durable_streams.subscriptions.records import UnreadableRecord, decode_steps, encode_step
from durable_streams.subscriptions.tombstones import Tombstones
from durable_streams.subscriptions.tracked import Tracked

FOLDER: Final = "subscriptions/"
"""Of the histories; what follows is the id."""
CHANGES_MAX: Final = 20
"""How often a change is decided anew because another process was faster; then the client is asked to come again."""

log = logging.getLogger("durable_streams.subscriptions")


class Registry:
    """The subscriptions of one storage."""

    def __init__(
        self,
        histories: Histories,
        streams: LinkedStreams,
        clock: Callable[[], float],
        *,
        shared: bool,
    ) -> None:
        """``clock``: seconds since 1970, of a clock that does not jump. ``shared``: others may change subscriptions."""
        self.histories = histories
        self.streams = streams
        self.clock = clock
        self.shared = shared
        self.index = LinkIndex()
        self.tombstones = Tombstones(histories, FOLDER)
        self.inbox = Inbox(self)
        self.on_change: Callable[[Tracked], None] = lambda tracked: None
        """Told of every subscription that something has happened to; it neither waits nor raises."""
        self._all: dict[str, Tracked] = {}
        self._damaged: dict[str, StreamDamaged] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Tracked]:
        """Those that exist, in the order of their ids."""
        return (tracked for _, tracked in sorted(self._all.items()) if tracked.exists)

    def snapshot(self) -> list[Tracked]:
        """All places in no order, those included that are still to be filled."""
        return list(self._all.values())

    # -- finding -----------------------------------------------------------------------------------------------

    def find(self, subscription_id: str) -> Tracked | None:
        """The subscription as it is recorded now; waits while it is being made. Raises StreamDamaged, Unavailable."""
        if subscription_id in self._damaged:
            raise self._damaged[subscription_id]
        tracked = self._all.get(subscription_id)
        if tracked is None:
            return self._adopt(subscription_id) if self.shared else None
        with tracked.lock:
            if tracked.exists:
                self.refresh(tracked)
            return tracked if tracked.exists else None

    def require(self, subscription_id: str) -> Tracked:
        """The same; raises SubscriptionNotFound."""
        tracked = self.find(subscription_id)
        if tracked is None:
            raise SubscriptionNotFound(subscription_id)
        return tracked

    def reserve(self, subscription_id: str) -> Tracked:
        """The place of a subscription that is about to be made; whoever holds its lock makes it."""
        return self._all.setdefault(subscription_id, Tracked(subscription_id))

    def is_reserved(self, tracked: Tracked) -> bool:
        """Whether the place is still to be filled."""
        return self._all.get(tracked.id) is tracked and not tracked.exists

    def discard(self, tracked: Tracked) -> None:
        """Give a place back."""
        if self._all.get(tracked.id) is tracked:
            del self._all[tracked.id]

    def _adopt(self, subscription_id: str) -> Tracked | None:
        """Another process may have made it."""
        history = self.histories.load(FOLDER + subscription_id)
        if history is None:
            return None
        tracked = self.reserve(subscription_id)
        with tracked.lock:
            if not tracked.exists:
                self.install(tracked, history)
        return tracked if tracked.exists else None

    # -- loading -----------------------------------------------------------------------------------------------

    def load_all(self) -> None:
        """Catch up with every subscription that is recorded; one that cannot be read is named in the log."""
        after = ""
        while keys := self.histories.keys(FOLDER, after):
            for key, version in self.histories.versions(keys).items():
                subscription_id = key.removeprefix(FOLDER)
                known = self._all.get(subscription_id) or self.tombstones.get(subscription_id)
                if known is None or known.version != version:
                    self.load(subscription_id)
                    yield_to_loop()
            after = keys[-1]

    def load(self, subscription_id: str) -> None:
        tracked = self.reserve(subscription_id)
        try:
            with tracked.lock:
                if tracked.exists:
                    self.refresh(tracked)
                elif (history := self.histories.load(FOLDER + subscription_id)) is not None:
                    self.install(tracked, history)
        except StreamDamaged as exc:
            self._damaged[subscription_id] = exc
            log.error("subscription %r cannot be loaded: %s", subscription_id, exc.cause)
        if not tracked.exists:
            self.discard(tracked)

    def install(self, tracked: Tracked, history: History) -> None:
        """Make the subscription what its history says; its streams are looked at."""
        found = None
        for event in _read(tracked.id, history):
            if isinstance(event, events.Deleted):
                self.tombstones.note(tracked.id, event, history.version)
            found = _apply(found, event, tracked.id)
        if tracked.exists:
            self.index.remove(tracked.sub)
        tracked.begin(found, history.version, history.version.size)
        if found is None:
            self.discard(tracked)
            return
        self.tombstones.forget(tracked.id)
        resume(found, self.clock())
        self.index.add(found)
        self.look_at(tracked, found.links)
        self.on_change(tracked)

    def refresh(self, tracked: Tracked) -> None:
        """Catch up with what is recorded: by other processes, or by a request that was cut off here."""
        key = FOLDER + tracked.id
        version = self.histories.version(key)
        if version == tracked.version:
            return
        history = self.histories.load(key, tracked.version)
        if history is None or history.is_whole:
            self.install(tracked, history or _NOTHING)
        else:
            self._apply(tracked, _read(tracked.id, history))
            tracked.version = history.version

    # -- changing ----------------------------------------------------------------------------------------------

    def update(self, subscription_id: str, request: Request) -> Decision:
        """Carry out ``request`` and return when it is as durable as the storage promises.

        Raises the ProtocolError that refuses it.
        """
        tracked = self.require(subscription_id)
        with tracked.lock:
            for _ in range(CHANGES_MAX):
                if not tracked.exists:
                    raise SubscriptionNotFound(subscription_id)
                self.inbox.absorb()
                decision = decide(tracked.sub, request, self.situation(tracked), subscription_id)
                if not decision.events or self._record(tracked, decision.events):
                    return decision
                self.refresh(tracked)
        raise Unavailable(f"subscription {subscription_id!r} changes too often")

    def situation(self, tracked: Tracked) -> Situation:
        """This moment, for a decision about ``tracked``."""
        return self.streams.situation(self.clock(), tracked.behind)

    def _record(self, tracked: Tracked, happened: Sequence[events.Event]) -> bool:
        """Make events durable and apply them; False when another process was faster."""
        assert tracked.version is not None
        key = FOLDER + tracked.id
        last = happened[-1]
        try:
            if isinstance(last, events.Deleted):
                version = self.histories.replace(key, encode_step([last]), tracked.version)
                self.tombstones.note(tracked.id, last, version)
            else:
                version = self.histories.extend(key, encode_step(happened), tracked.version)
        except DocumentChanged:
            return False
        self._apply(tracked, happened)
        tracked.version = version
        return True

    def _apply(self, tracked: Tracked, happened: Sequence[events.Event]) -> None:
        for event in happened:
            if isinstance(event, events.Deleted):
                self.index.remove(tracked.sub)
                self.discard(tracked)
            tracked.apply((event,))
            match event:
                case events.Linked() | events.Acked():
                    self.index.link_all(tracked.id, event.links)
                    self.look_at(tracked, [link.path for link in event.links])
                case events.Unlinked():
                    self.index.unlink(tracked.id, event.path)
                    self.look_at(tracked, [event.path])
        self.on_change(tracked)

    # -- streams that change -----------------------------------------------------------------------------------

    def see(self, subscription_id: str, path: str, stream: StreamState | None) -> None:
        """A stream that the subscription is linked to is ``stream`` now."""
        tracked = self._all.get(subscription_id)
        if tracked is None:
            return
        if tracked.noticed is not None:
            tracked.noticed[path] = None
        elif tracked.exists and tracked.see(path, stream, self.clock()):
            self.on_change(tracked)

    def look_at(self, tracked: Tracked, paths: Iterable[str]) -> None:
        """Look at these linked streams as they are now."""
        for some, streams in self.streams.in_slices(paths):
            if not tracked.exists:
                return
            for path in some:
                if tracked.sub.is_linked(path):
                    tracked.see(path, streams.get(path), self.clock())
                else:
                    tracked.forget(path)


_NOTHING: Final = History(b"", Version("", 0), is_whole=True)


def _apply(found: Subscription | None, event: events.Event, subscription_id: str) -> Subscription | None:
    try:
        return events.apply(found, event)
    except ValueError as exc:
        raise StreamDamaged(f"the history of subscription {subscription_id!r}: {exc}") from exc


def _read(subscription_id: str, history: History) -> list[events.Event]:
    try:
        return list(decode_steps(history.body))
    except UnreadableRecord as exc:
        raise StreamDamaged(f"the history of subscription {subscription_id!r}: {exc}") from exc
