"""What has changed and was not looked at yet: streams that are linked, and subscriptions of other processes.

Putting something in costs the writer of a stream one look into a dictionary; looking is left to the dispatcher, and to
a request that must be decided on the newest state.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from durable_streams.protocol.errors import ProtocolError, StreamDamaged
from durable_streams.protocol.names import RESERVED
from durable_streams.streams.wakes import EVERYTHING, Interest

if TYPE_CHECKING:
    from durable_streams.subscriptions.registry import Registry

_INTERNAL: Final = RESERVED + "/"
_HISTORIES: Final = _INTERNAL + "subscriptions/"

log = logging.getLogger("durable_streams.subscriptions")


class Inbox:
    """Of one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.interest: Final = Interest(EVERYTHING) if registry.shared else registry.index.interest
        """Of a shared storage, also the histories that other processes have changed."""
        self._streams: dict[str, None] = {}
        self._subscriptions: dict[str, None] = {}
        """Ids of those that other processes may have changed."""

    def __len__(self) -> int:
        return len(self._streams) + len(self._subscriptions)

    def put(self, name: str) -> bool:
        """A stream, or a history, has changed; whether that matters. Called for every change of the storage."""
        registry = self._registry
        if registry.shared and name.startswith(_INTERNAL):
            if not name.startswith(_HISTORIES):
                return False
            self._subscriptions[name.removeprefix(_HISTORIES)] = None
        elif registry.index.may_wake(name):
            self._streams[name] = None
        else:
            return False
        return True

    def absorb(self) -> None:
        """Look at the streams that have changed; raises Unavailable when the storage cannot be asked."""
        while self._streams:
            name = next(iter(self._streams))
            del self._streams[name]
            try:
                self._look_into(name)
            except StreamDamaged as exc:
                log.error("a linked stream cannot be looked at: %s", exc.cause)
            except ProtocolError:
                self._streams[name] = None
                raise

    def absorb_elsewhere(self) -> None:
        """Catch up with the subscriptions that other processes have changed. Its caller holds no lock."""
        while self._subscriptions:
            subscription_id = next(iter(self._subscriptions))
            del self._subscriptions[subscription_id]
            self._registry.load(subscription_id)

    def _look_into(self, name: str) -> None:
        watchers = self._registry.index.watchers(name)
        if watchers:
            stream = self._registry.streams.current(name)
            for subscription_id in watchers:
                self._registry.see(subscription_id, name, stream)
