"""What is counted before and after clients that come and go."""

from __future__ import annotations

import gc

import gevent
from gevent import get_hub

from durable_streams.eventloop.client_watch import ClientWatch


def alive() -> dict[str, int]:
    """How many of what could leak are alive."""
    gevent.idle()
    gc.collect()
    kinds = {
        "greenlets": gevent.Greenlet,
        "watchers": type(get_hub().loop.io(0, 1)),
        "watches": ClientWatch,
        "sockets": gevent.socket.socket,
    }
    everything = gc.get_objects()
    return {name: sum(isinstance(thing, kind) for thing in everything) for name, kind in kinds.items()}
