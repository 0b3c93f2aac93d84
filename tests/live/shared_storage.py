"""A storage in memory that several services may have open at once, and a relay between them that can lose wakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from durable_streams.storage.abilities import Wake
from durable_streams.storage.memory import InMemoryStorage


class Wire:
    """What connects the relays: it counts what goes over it, and can be told to lose it."""

    def __init__(self) -> None:
        self.loses = False
        self.carried: list[Wake] = []
        self.ends: list[WireRelay] = []

    def carry(self, sender: WireRelay, wakes: Sequence[Wake]) -> None:
        if not self.loses:
            self.carried += wakes
            for end in self.ends:
                # Also to the sender: a relay may echo.
                end.deliver(wakes)

    def reconnect(self) -> None:
        """The wire works again, and says that it did not."""
        self.loses = False
        for end in self.ends:
            end.lost()


class WireRelay:
    """One process's end of the wire."""

    deliver: Callable[[Sequence[Wake]], None]
    lost: Callable[[], None]

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def publish(self, wakes: Sequence[Wake]) -> None:
        self._wire.carry(self, wakes)

    def listen(self, deliver: Callable[[Sequence[Wake]], None], lost: Callable[[], None]) -> None:
        self.deliver, self.lost = deliver, lost
        self._wire.ends.append(self)


class SharedMemory(InMemoryStorage):
    """Streams that all storages made from one ``Wire`` and ``InMemoryStorage`` have in common."""

    def __init__(self, wire: Wire, streams: InMemoryStorage) -> None:
        super().__init__()
        self._wire = wire
        self._states = streams._states
        self._bytes = streams._bytes
        self._deadlines = streams._deadlines

    def relay(self) -> WireRelay:
        return WireRelay(self._wire)
