"""Servers that share one database and tell each other of their wakes, without processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from durable_streams.storage.abilities import Wake
from tests.contract.shared_storage import Database, SharedStorage


class Bus:
    """Carries wakes between storages; ``loses``: how many it drops without a word."""

    def __init__(self) -> None:
        self.listeners: list[tuple[object, Callable[[Sequence[Wake]], None], Callable[[], None]]] = []
        self.is_broken = False

    def publish(self, sender: object, wakes: Sequence[Wake]) -> None:
        if self.is_broken:
            return
        for other, deliver, _ in self.listeners:
            if other is not sender:
                deliver(wakes)

    def say_lost(self) -> None:
        for _, _, lost in self.listeners:
            lost()


class BusRelay:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def publish(self, wakes: Sequence[Wake]) -> None:
        self._bus.publish(self, wakes)

    def listen(self, deliver: Callable[[Sequence[Wake]], None], lost: Callable[[], None]) -> None:
        self._bus.listeners.append((self, deliver, lost))

    def close(self) -> None:
        self._bus.listeners = [entry for entry in self._bus.listeners if entry[0] is not self]


class RelayedStorage(SharedStorage):
    """One process's way to a database, with a relay."""

    def __init__(self, database: Database, bus: Bus) -> None:
        super().__init__(database)
        self._bus = bus
        self._relay: BusRelay | None = None

    def relay(self) -> BusRelay:
        self._relay = BusRelay(self._bus)
        return self._relay

    def close(self) -> None:
        super().close()
        if self._relay is not None:
            self._relay.close()
