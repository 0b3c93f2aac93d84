"""The life of one open store in a serving process: open, sweep, stop those who wait, close."""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from durable_streams.live.fanout import Fanout
from durable_streams.live.hub import Hub
from durable_streams.storage.contract import Change, Storage
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore

SWEEP_INTERVAL_S = 1.0
SWEEP_STREAMS_MAX = 1000
"""Streams in one go of the sweeper; then everybody else gets a turn."""

log = logging.getLogger("durable_streams.streams")


class StreamService:
    """One store and all who wait at it. Use it from greenlets of one thread."""

    body_timeout_s: float | None = None
    """What the configuration says of request bodies, for a worker that watches over them too."""

    def __init__(self, storage: Storage, limits: Limits) -> None:
        self.hub = Hub()
        self.store = StreamStore(storage, limits, self._announce)
        self.fanout = Fanout(self.store)
        self.on_ready: list[Callable[[bool], None]] = []
        """Told True when requests can be answered, and False when a stop has begun."""
        self._opening = Semaphore()
        self._closing = Event()
        self._sweeper: gevent.Greenlet[[], None] | None = None

    @property
    def is_ready(self) -> bool:
        return self.store.is_open and not self.hub.stopping and not self.store.failed

    def open(self) -> None:
        """Open the storage, in the process that serves; raises what ``Storage.open`` raises. Twice is once."""
        with self._opening:
            if self.store.is_open or self._closing.is_set():
                return
            self.store.open()
            self._sweeper = gevent.spawn(self._sweep_for_ever)
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
            if self._sweeper is not None:
                self._sweeper.join()
                self._sweeper = None
            self.store.close()

    def _announce(self, change: Change) -> None:
        self.hub.announce(change)
        self.fanout.announce(change)

    def _tell(self, ready: bool) -> None:
        for listener in self.on_ready:
            listener(ready)

    def _sweep_for_ever(self) -> None:
        while not self._closing.wait(SWEEP_INTERVAL_S):
            try:
                while self.store.sweep(SWEEP_STREAMS_MAX) == SWEEP_STREAMS_MAX and not self._closing.is_set():
                    gevent.sleep(0)
            except Exception:
                # One failed round must not end the sweeping; what was due is due again in the next.
                log.exception("sweeping expired streams failed")
