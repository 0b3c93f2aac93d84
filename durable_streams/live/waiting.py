"""Waits for a wake, or until the client has gone."""

from __future__ import annotations

from functools import partial

import gevent
from gevent.event import Event

from durable_streams.eventloop.live_socket import Watchable


class ClientGone(Exception):
    """The client has closed its connection while it was waiting."""


def wait_for(event: Event, seconds: float, client: Watchable) -> bool:
    """Whether ``event`` came within ``seconds``; raises ClientGone as soon as the client hangs up."""
    # The watch's callback runs in the hub, and throws into this greenlet just as gevent's own timeouts do.
    watch = client.watch(partial(gevent.getcurrent().throw, ClientGone))
    try:
        return bool(event.wait(seconds))
    finally:
        watch.close()
