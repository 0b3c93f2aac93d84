"""The steps that a subscription is taken: waking it, delivering its wake, ending its lease, burying what has failed.

A wake is recorded before anybody is told of it, and so is each result before the next step is taken. After a crash in
between the same wake is delivered again, with the same generation and another signature (section 7.1).
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

import msgspec

from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.subscriptions import wire
from durable_streams.protocol.subscriptions.deciding import ENTRIES_MAX
from durable_streams.protocol.subscriptions.requests import (
    Attempt,
    Bury,
    Expire,
    Fail,
    Situation,
    Succeed,
    WakeUp,
)
from durable_streams.protocol.subscriptions.retrying import Step
from durable_streams.protocol.subscriptions.state import Entry, Subscription, Wake
from durable_streams.subscriptions.dispatching.announcing import announce_wake, write_dead_letter
from durable_streams.subscriptions.figures import DeliveryCounts
from durable_streams.subscriptions.registry import Registry
from durable_streams.subscriptions.tracked import Tracked

ERROR_CHARACTERS_MAX: Final = 500

log = logging.getLogger("durable_streams.subscriptions")


class Answer(Protocol):
    @property
    def done(self) -> bool: ...


class DeliveryFailed(Exception):
    """The receiver did not answer with 2xx; the message says why, for people."""


class Sender(Protocol):
    """Signs a webhook and posts it, with further headers; raises DeliveryFailed."""

    def __call__(self, url: str, body: bytes, timeout_s: float, headers: Mapping[str, str]) -> Answer: ...


Surrounding = Callable[[Subscription, Wake], AbstractContextManager[Mapping[str, str]]]
"""Makes what a delivery runs in; its value are headers for the receiver."""


def plain(sub: Subscription, wake: Wake) -> AbstractContextManager[Mapping[str, str]]:
    """Nothing around a delivery, and no headers."""
    return nullcontext({})


class Deliverer:
    """Takes steps for the dispatcher."""

    def __init__(
        self,
        registry: Registry,
        send: Sender,
        make_token: Callable[[str, int], str],
        subscription_url: Callable[[Subscription], str],
        timeout_s: float,
        wall_clock: Callable[[], float],
    ) -> None:
        """``subscription_url``: where clients find a subscription. ``wall_clock``: seconds since 1970, for clients."""
        self._registry = registry
        self._send = send
        self._make_token = make_token
        self._subscription_url = subscription_url
        self._timeout_s = timeout_s
        self._wall_clock = wall_clock
        self.counts = DeliveryCounts()
        self.surround: Surrounding = plain

    def take_step(self, tracked: Tracked, step: Step) -> None:
        """Do what is next; raises the ProtocolError of a storage that could not note it."""
        match step:
            case Step.WAKE_UP:
                self._registry.update(tracked.id, WakeUp(new_wake_id()))
            case Step.EXPIRE:
                self._registry.update(tracked.id, Expire())
                self.counts.expired_leases += 1
            case Step.DELIVER:
                self._deliver(tracked)
            case Step.BURY:
                self._bury(tracked)

    def _deliver(self, tracked: Tracked) -> None:
        wake = _wake_of(tracked)
        if wake is None:
            return
        self._registry.update(tracked.id, Attempt(wake.id))
        if not tracked.exists or tracked.sub.wake is None or tracked.sub.wake.id != wake.id:
            return
        self.counts.attempts[tracked.sub.config.type] += 1
        if tracked.sub.pulls:
            self._announce(tracked, tracked.sub.wake)
        else:
            self._post(tracked, tracked.sub.wake)

    def _announce(self, tracked: Tracked, wake: Wake) -> None:
        try:
            announce_wake(self._registry.streams, tracked.sub, wake, self._wall_clock())
        except ProtocolError as exc:
            self._fail(tracked, wake, f"the wake stream: {exc.detail}")
            return
        tracked.announced = wake.generation
        self._registry.update(tracked.id, Succeed(wake.id, False, self._registry.clock()))

    def _post(self, tracked: Tracked, wake: Wake) -> None:
        sub = tracked.sub
        assert sub.config.webhook_url is not None
        began_at = self._registry.clock()
        timeout_s = min(self._timeout_s, sub.config.lease_ttl_s)
        try:
            with self.surround(sub, wake) as headers:
                answer = self._send(sub.config.webhook_url, self._body(tracked, wake), timeout_s, headers)
        except DeliveryFailed as exc:
            self._fail(tracked, wake, str(exc))
            return
        was_failing = sub.is_failing
        self._registry.update(tracked.id, Succeed(wake.id, answer.done, began_at))
        if was_failing:
            log.info("subscription %r delivers again", tracked.id)

    def _bury(self, tracked: Tracked) -> None:
        wake = _wake_of(tracked)
        if wake is None:
            return
        try:
            write_dead_letter(self._registry.streams, tracked.sub, wake, self._wall_clock())
        except ProtocolError as exc:
            self._fail(tracked, wake, f"the dead-letter stream: {exc.detail}")
            return
        self._registry.update(tracked.id, Bury(wake.id))
        self.counts.dead_letters += 1
        log.warning("subscription %r: wake %s went to the dead letters", tracked.id, wake.id)

    def _fail(self, tracked: Tracked, wake: Wake, error: str) -> None:
        if not tracked.exists:
            return
        self.counts.failures[tracked.sub.config.type] += 1
        is_first = not tracked.sub.is_failing
        self._registry.update(tracked.id, Fail(wake.id, error[:ERROR_CHARACTERS_MAX], random.random()))
        # A receiver that is down is one record, not one for each retry.
        if is_first and tracked.exists and tracked.sub.is_failing:
            log.warning("subscription %r fails: %s", tracked.id, error)

    def _body(self, tracked: Tracked, wake: Wake) -> bytes:
        """Section 7.1: six fields. The snapshot is that of the wake, so a repeated delivery says the same."""
        sub = tracked.sub
        url = self._subscription_url(sub)
        return msgspec.json.encode(
            {
                "subscription_id": sub.id,
                "wake_id": wake.id,
                "generation": wake.generation,
                "streams": streams_of(tracked, wake.entries, self._registry),
                "callback_url": f"{url}/callback",
                "callback_token": self._make_token(sub.id, wake.generation),
            }
        )


def streams_of(tracked: Tracked, entries: tuple[Entry, ...], registry: Registry) -> list[wire.Json]:
    """The streams of a wake: all linked ones while they are few, else the pending ones alone."""
    linked = tracked.linked_paths()
    others = sorted(linked) if len(linked) <= ENTRIES_MAX else []
    paths = [*(entry.path for entry in entries), *others]
    streams = registry.streams.current_all(paths)
    others = [path for path in others if path in streams or tracked.sub.is_explicit(path)]
    situation: Situation = registry.streams.situation(registry.clock(), tracked.behind, streams.get)
    return list(wire.wake_streams(tracked.sub, entries, others, situation))


def new_wake_id() -> str:
    """Never the same twice."""
    return f"w_{os.urandom(12).hex()}"


def _wake_of(tracked: Tracked) -> Wake | None:
    return tracked.sub.wake if tracked.exists else None
