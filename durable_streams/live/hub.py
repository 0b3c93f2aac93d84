"""The hub: waiting until a stream has changed, and telling all who wait that one has.

A waiter takes the event *before* it looks at the stream, so a change between the look and the wait wakes it. A change
swaps the event for a new one: nobody is woken twice by one change, and there is no moment at which one is missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from gevent.event import Event

from durable_streams.streams.wakes import Interest


class Watch:
    """One reader's place at a stream."""

    __slots__ = ("_hub", "name")

    def __init__(self, hub: Hub, name: str) -> None:
        self._hub = hub
        self.name = name

    def event(self) -> Event:
        """The event of the next change; take it first, look at the stream, and then wait for it."""
        return self._hub._events[self.name]


class Hub:
    """All readers that wait in this process."""

    def __init__(self) -> None:
        self.stopping = False
        self._events: dict[str, Event] = {}
        self.interest: Final = Interest(self._events)
        self._watchers: dict[str, int] = {}
        self.readers = {"long-poll": 0, "sse": 0}
        """How many have a place now, by their kind."""

    def announce(self, name: str) -> None:
        """The stream ``name`` may have changed: wake everybody who watches it."""
        event = self._events.get(name)
        if event is not None:
            self._events[name] = Event()
            event.set()

    def announce_all(self) -> None:
        """Wake everybody."""
        for name in list(self._events):
            self.announce(name)

    def watched(self) -> Iterable[str]:
        """The names of the streams that somebody watches."""
        return self._events.keys()

    @contextmanager
    def watch(self, name: str, kind: str = "") -> Iterator[Watch]:
        """A place at the stream ``name``, given up at the end of the block. ``kind`` of reader is for the metrics."""
        self.readers[kind] = self.readers.get(kind, 0) + 1
        self._watchers[name] = self._watchers.get(name, 0) + 1
        self._events.setdefault(name, Event())
        try:
            yield Watch(self, name)
        finally:
            self.readers[kind] -= 1
            self._watchers[name] -= 1
            if not self._watchers[name]:
                del self._watchers[name], self._events[name]

    def stop(self) -> None:
        """End every wait: long-polls answer and event streams finish (also those that come later)."""
        self.stopping = True
        self.announce_all()

    def watchers_of(self, name: str) -> int:
        """How many readers have a place at the stream ``name`` now."""
        return self._watchers.get(name, 0)

    @property
    def watchers(self) -> int:
        """How many readers have a place now."""
        return sum(self._watchers.values())
