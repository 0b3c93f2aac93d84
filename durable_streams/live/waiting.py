"""Waiting for a wake, and for nothing longer than the client does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gevent
from gevent.event import Event

from durable_streams.eventloop.client_watch import ClientWatch


class ClientGone(Exception):
    """The client has closed its connection while it was waiting."""


def wait_for(event: Event, seconds: float, client_socket: Any) -> bool:
    """Whether ``event`` came within ``seconds``; raises ClientGone as soon as the client hangs up.

    ``client_socket`` is what the server offers as ``gunicorn.socket``, or None where there is none to watch.
    """
    if client_socket is None:
        return bool(event.wait(seconds))
    with _watched(client_socket):
        return bool(event.wait(seconds))


@contextmanager
def _watched(client_socket: Any) -> Iterator[None]:
    # The watch's callback runs in the hub, and throws into this greenlet just as gevent's own time-outs do.
    watch = ClientWatch(client_socket, partial(gevent.getcurrent().throw, ClientGone))
    try:
        yield
    finally:
        watch.close()
