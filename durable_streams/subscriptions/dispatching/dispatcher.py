"""The dispatcher: takes each subscription the step that is next for it, as soon as it is due.

What is next is read off the state, so it goes on after a restart, or in another process, where things stand. In a
storage that several processes share only the holder of a lease dispatches. Two that believe they hold it for a moment
deliver twice at the most: each result is decided on what is recorded, and a late one decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import gevent
from gevent.event import Event

from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.subscriptions.retrying import NextStep, Step, next_step
from durable_streams.streams.wakes import Interest
from durable_streams.subscriptions.compaction import compact, is_long
from durable_streams.subscriptions.dispatching.crews import Crews
from durable_streams.subscriptions.dispatching.timers import Timers
from durable_streams.subscriptions.reconciling import reconcile
from durable_streams.subscriptions.registry import Registry
from durable_streams.subscriptions.tracked import Tracked

PAUSE_S: Final = 1.0
"""How long all subscriptions rest after an error of the storage."""
ASK_S: Final = 2.0
"""How often a process that shares its storage asks whether it dispatches."""
RECONCILE_S: Final = 60.0
"""How often such a process looks at all linked streams: a wake of another process can be lost."""

log = logging.getLogger("durable_streams.subscriptions")


class Dispatcher:
    """Works through the subscriptions of a registry. Its greenlet calls ``run``."""

    def __init__(
        self,
        registry: Registry,
        take_step: Callable[[Tracked, Step], None],
        deliveries_max: int,
        leads: Callable[[], bool] | None = None,
    ) -> None:
        """``take_step`` waits, and may raise a ProtocolError. ``leads``: whether this process dispatches now, if
        others could.
        """
        self.loaded = Event()
        """Set when all subscriptions are known."""
        self._registry = registry
        self._take_step = take_step
        self._leads = leads
        self._event = Event()
        self._stopping = False
        self._is_idle = False
        """Nothing is to be done before somebody says so, or a time has come."""
        self._poked: dict[Tracked, None] = {}
        """To be looked at as soon as possible."""
        self._timers = Timers()
        self._crews = Crews(deliveries_max, lambda: registry.clock(), self.poke)
        self._reconcile_at = 0.0
        self._was_leading = False
        registry.on_change = self.poke

    # -- from outside: these neither wait nor raise ------------------------------------------------------------

    def poke(self, tracked: Tracked) -> None:
        """Something has happened to a subscription."""
        self._poked[tracked] = None
        self._event.set()

    @property
    def interest(self) -> Interest:
        return self._registry.inbox.interest

    def announce(self, name: str) -> None:
        if self._registry.inbox.put(name):
            self._event.set()

    def announce_all(self) -> None:
        self._reconcile_at = 0.0
        self._event.set()

    def watched(self) -> tuple[str, ...]:
        # All linked streams are looked at once in RECONCILE_S, which is enough for what a relay has lost.
        return ()

    # -- running -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Load the subscriptions, then dispatch until ``stop``."""
        while not self._stopping and not self.loaded.is_set():
            if self._try(self._registry.load_all):
                self.loaded.set()
        while not self._stopping:
            if self._try(self._round):
                self._is_idle = True
                self._event.wait(self._idle_s())
                self._is_idle = False
            self._event.clear()

    @property
    def is_leading(self) -> bool:
        """Whether this process has dispatched in its last round."""
        return self._was_leading

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is under way, and nothing is due."""
        return self._is_idle and not self._event.is_set() and not self._crews

    def stop(self) -> None:
        """Begin nothing more, and end what is under way, if need be by cutting it off."""
        self._stopping = True
        self._event.set()
        self._crews.end()

    def _try(self, work: Callable[[], None]) -> bool:
        """Do some work; one that fails is done again after a pause, because nobody else would."""
        try:
            work()
        except ProtocolError as exc:
            log.warning("subscriptions cannot be looked at for now: %r", exc)
        except Exception:
            log.exception("dispatching failed; it goes on after %s s", PAUSE_S)
        else:
            return True
        gevent.sleep(PAUSE_S)
        return False

    def _round(self) -> None:
        registry, now = self._registry, self._registry.clock()
        # What is poked while this round works is for the next one.
        self._event.clear()
        registry.inbox.absorb_elsewhere()
        registry.inbox.absorb()
        if now >= self._reconcile_at:
            if self._leads is not None:
                registry.load_all()
            reconcile(registry)
            self._reconcile_at = now + RECONCILE_S if self._leads else float("inf")
        if not self._is_leading():
            self._poked.clear()
            return
        self._poked.update(dict.fromkeys(self._timers.take_due(now)))
        self._poked.update(dict.fromkeys(self._crews.next_in_line()))
        poked, self._poked = self._poked, {}
        for tracked in poked:
            self._look(tracked)
        if registry.tombstones and now >= registry.tombstones.due_at:
            registry.tombstones.clear_old(now)

    def _is_leading(self) -> bool:
        leading = self._leads is None or self._leads()
        if leading and not self._was_leading:
            self._poked.update(dict.fromkeys(self._registry))
        self._was_leading = leading
        return leading

    def _idle_s(self) -> float | None:
        """Until when nothing happens by itself."""
        times = [] if self._timers.next_at is None else [self._timers.next_at]
        if self._reconcile_at < float("inf"):
            times.append(self._reconcile_at)
        if self._registry.tombstones:
            times.append(self._registry.tombstones.due_at)
        now = self._registry.clock()
        idle_s = max(0.0, min(times) - now) if times else None
        if self._leads is None:
            return idle_s
        return ASK_S if idle_s is None else min(ASK_S, idle_s)

    # -- one subscription --------------------------------------------------------------------------------------

    def _look(self, tracked: Tracked) -> None:
        """Begin what is due for a subscription, or remember when it will be."""
        crews = self._crews
        if tracked in crews or not tracked.exists:
            return
        if is_long(tracked):
            crews.begin(crews.steps, tracked, lambda tracked: compact(self._registry, tracked))
            return
        following = self._next_step(tracked)
        at = max(following.at, tracked.rest_until)
        if following.step is Step.REST:
            return
        if at > self._registry.clock():
            self._timers.set(tracked, at)
            return
        is_webhook = following.step is Step.DELIVER and not tracked.sub.pulls
        crew = crews.deliveries if is_webhook else crews.steps
        crews.begin(crew, tracked, lambda tracked: self._take_step(tracked, following.step))

    def _next_step(self, tracked: Tracked) -> NextStep:
        sub = tracked.sub
        following = next_step(sub, tracked.pending_since)
        if following.step is Step.DELIVER and sub.pulls and tracked.announced == sub.generation:
            # It stands in the wake stream, and waits for a claim.
            return NextStep(Step.REST)
        return following
