"""How many connections are served at once, in all and for one client, and what becomes of those beyond.

A connection beyond a limit may ask one probe, so that a full server is not taken for a dead one. To anything else it is
answered 503, and closed. One that is silent gives way to newer ones, so probes get through however many there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import gevent

from durable_streams.addresses import client_of

BEYOND_MAX: Final = 64
"""Connections beyond the limit that are answered at once."""
POOL_SPARE: Final = 2 * BEYOND_MAX
"""Greenlets beside those of connections that are served: of those that are answered, and those that gave way."""
BEYOND_S: Final = 2.0
"""How long such a connection has to send its request, or to shake hands."""
PROBES: Final = frozenset({"/healthz", "/readyz"})


class Admission:
    """Counts connections. ``per_client_max``: 0 means no limit."""

    def __init__(self, connections_max: int, per_client_max: int = 0) -> None:
        self._connections_max = connections_max
        self._per_client_max = per_client_max
        self._connections = 0
        self._of_client: Counter[str | bytes] = Counter()
        self._beyond: dict[object, Callable[[], None]] = {}

    def enter(self, addr: Any) -> str | None:
        """Count a connection from ``addr``; None if it is served, else the limit that it is beyond."""
        self._connections += 1
        if self._per_client_max and isinstance(addr, tuple):
            client = client_of(addr[0])
            self._of_client[client] += 1
            if self._of_client[client] > self._per_client_max:
                return f"limits.max_connections_per_client = {self._per_client_max}"
        if self._connections > self._connections_max:
            return f"server.worker_connections = {self._connections_max}"
        return None

    def leave(self, addr: Any) -> None:
        """The connection has ended."""
        self._connections -= 1
        if self._per_client_max and isinstance(addr, tuple):
            client = client_of(addr[0])
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

    @contextmanager
    def answering(self, end: Callable[[], None]) -> Iterator[None]:
        """While a connection beyond a limit is answered: for BEYOND_S at most.

        ``end`` breaks the connection; called before, when BEYOND_MAX newer ones have come.
        """
        me = object()
        self._beyond[me] = end
        if len(self._beyond) > BEYOND_MAX:
            self._beyond.pop(next(iter(self._beyond)))()
        try:
            with gevent.Timeout(BEYOND_S, False):
                yield
        finally:
            self._beyond.pop(me, None)
