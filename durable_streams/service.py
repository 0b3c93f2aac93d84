"""One open storage and everything that works on it: the store, its listeners, the sweeper; opened, stopped, closed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from durable_streams.config.subscriptions import SubscriptionSettings
from durable_streams.eventloop import stopping
from durable_streams.live.fanout import Fanout
from durable_streams.live.hub import Hub
from durable_streams.protocol.errors import StreamDamaged
from durable_streams.protocol.requests import NOTHING_INHERITED, Inherited
from durable_streams.protocol.state import StreamState
from durable_streams.storage.abilities import Shared
from durable_streams.storage.contract import Storage
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore
from durable_streams.streams.sweeper import Sweeper
from durable_streams.streams.wakes import Listener, Wakes
from durable_streams.subscriptions.service import SubscriptionService

LOOK_INTERVAL_S = 5.0
"""How late a reader learns of a change by another process whose wake was lost."""

log = logging.getLogger("durable_streams.streams")


class StreamService:
    """One store and everything that waits for its streams. Use it from greenlets of one thread.

    While it is open, the stop of the process (``eventloop.stopping``) stops and closes it.
    """

    def __init__(
        self,
        storage: Storage,
        limits: Limits,
        subscriptions: SubscriptionSettings | None = None,
        defaults: Inherited = NOTHING_INHERITED,
    ) -> None:
        """Without ``subscriptions`` there are none; ``defaults`` as for the ``StreamStore``."""
        self.listeners: list[Listener] = []
        """All that acts on wakes; an entry that is added later gets the wakes that follow."""
        self.wakes = Wakes(self.listeners)
        self.store = StreamStore(storage, limits, self.wakes.publish, defaults=defaults)
        self.hub = Hub()
        self.fanout = Fanout(self.store)
        self.listeners += (self.hub, self.fanout)
        self.subscriptions: SubscriptionService | None = None
        if subscriptions is not None and subscriptions.enabled:
            self.subscriptions = SubscriptionService(self.store, subscriptions, self.listeners.append)
        self.on_ready: list[Callable[[bool], None]] = []
        """Told True when requests can be answered, and False when a stop has begun."""
        self._opening = Semaphore()
        self._closing = Event()
        self._background: list[gevent.Greenlet[[], None]] = []

    @property
    def is_ready(self) -> bool:
        store = self.store
        return store.is_open and not (self.hub.stopping or store.failed or store.storage.is_full)

    def open(self) -> None:
        """Open the storage, in the process that serves; raises what ``Storage.open`` raises. Twice is once."""
        with self._opening:
            if self.store.is_open or self._closing.is_set():
                return
            self.store.open()
            self._background = [gevent.spawn(Sweeper(self.store).run, self._closing)]
            self._join_others()
            if self.subscriptions is not None:
                self.subscriptions.open()
            stopping.on_drain(self.stop_live)
            stopping.on_stopped(self.close, last=True)
            self._tell(True)

    def stop_live(self) -> None:
        """A stop has begun: no longer ready, and every long-poll and event stream ends at its next boundary."""
        if not self.hub.stopping:
            self.hub.stop()
            self.fanout.stop()
            self._tell(False)

    def close(self) -> None:
        """Make durable what was accepted and release the storage. Twice is once."""
        self.stop_live()
        self._closing.set()
        with self._opening:
            if self.subscriptions is not None:
                self.subscriptions.close()
            gevent.joinall(self._background)
            self.store.close()
            stopping.forget(self.stop_live, self.close)

    def _join_others(self) -> None:
        """Exchange wakes with the other processes that have the storage open, if it can be shared."""
        storage = self.store.storage
        if isinstance(storage, Shared):
            relay = storage.relay()
            relay.listen(self.wakes.deliver, self.wakes.lost)
            self.wakes.relay = relay
            self._background.append(gevent.spawn(self._look_until_closed))

    def _look_until_closed(self) -> None:
        while not self._closing.wait(LOOK_INTERVAL_S):
            try:
                self.wakes.look(self._newest)
            except Exception:
                log.exception(
                    "looking at the watched streams failed; the next look is in %s s", LOOK_INTERVAL_S
                )

    def _newest(self, names: Collection[str]) -> dict[str, StreamState | None]:
        found = self.store.storage.find(names)
        # A reader of a damaged stream is told so when it looks for itself.
        return {name: None if isinstance(state, StreamDamaged) else state for name, state in found.items()}

    def _tell(self, ready: bool) -> None:
        for listener in self.on_ready:
            listener(ready)
