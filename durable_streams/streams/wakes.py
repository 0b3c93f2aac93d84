"""Wakes: from a durable change to everybody in this process who waits for one.

A wake says that a stream has changed, never how: a listener that cares asks for the state. So a lost, late or repeated
wake costs time and never correctness. Where several processes share the storage, wakes also travel through its relay,
and a regular look at the watched streams finds what the relay has lost.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from typing import Final, Protocol

from durable_streams.protocol.state import StreamState
from durable_streams.storage.abilities import Relay, Wake
from durable_streams.storage.contract import Change

Find = Callable[[Collection[str]], Mapping[str, StreamState | None]]


class _Everything:
    """Contains every name."""

    def __contains__(self, name: object) -> bool:
        return True


EVERYTHING: Final[Container[str]] = _Everything()


class Interest:
    """What a listener wants to be told of: ``names`` is asked at every append, so a dictionary is best."""

    __slots__ = ("names",)

    def __init__(self, names: Container[str]) -> None:
        self.names = names


class Listener(Protocol):
    """Somebody who acts on wakes. Its methods are called in the event loop; they neither wait nor raise."""

    @property
    def interest(self) -> Interest:
        """The streams of which it is told; always the same object."""

    def announce(self, name: str) -> None:
        """The stream ``name`` may have changed."""

    def announce_all(self) -> None:
        """Any stream may have changed: some wakes are missing."""

    def watched(self) -> Iterable[str]:
        """The names of the streams whose wakes matter to it now."""


def wake_of(name: str, state: StreamState | None) -> Wake:
    """What there is to tell of the stream ``name`` when ``state`` is its newest one."""
    if state is None:
        return Wake(name, "", 0, True)
    return Wake(name, state.config.uid, state.tail, state.closed or state.deleted)


def _wake_of_change(change: Change) -> Wake:
    if change.after is not None:
        return wake_of(change.name, change.after)
    return wake_of(change.name, change.before)._replace(is_over=True)


class Wakes:
    """Tells every listener of this process, and through ``relay`` the other processes, what has changed."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        """``listeners`` may grow later: each wake goes to those that are in it then."""
        self.relay: Relay | None = None
        self._listeners = listeners
        self._told: dict[str, Wake] = {}
        """The newest wake of every stream that was watched at the last look."""

    def publish(self, changes: Sequence[Change]) -> None:
        """These changes of this process are durable."""
        if self.relay is None and not self._told:
            # One process alone, where every append passes: nobody asks what the wakes say.
            for change in changes:
                self._announce(change.name)
            return
        wakes = [_wake_of_change(change) for change in changes]
        self.deliver(wakes)
        if self.relay is not None:
            self.relay.publish(wakes)

    def deliver(self, wakes: Sequence[Wake]) -> None:
        """Tell the listeners of this process; what they have been told already is left out."""
        told = self._told
        for wake in wakes:
            name = wake.name
            if name in told:
                if told[name] == wake:
                    continue
                told[name] = wake
            self._announce(name)

    def _announce(self, name: str) -> None:
        for listener in self._listeners:
            if name in listener.interest.names:
                listener.announce(name)

    def lost(self) -> None:
        """Some wakes of other processes are missing, and nobody knows which."""
        for listener in self._listeners:
            listener.announce_all()

    def look(self, find: Find) -> None:
        """Ask for the newest state of every watched stream, and tell the listeners of those that have changed.

        A stream that was not watched at the last look is announced once without need: what its readers have seen is
        not known here. ``find`` may wait.
        """
        names = {name for listener in self._listeners for name in listener.watched()}
        states = find(names) if names else {}
        newest = [wake_of(name, states.get(name)) for name in names]
        self._told = {name: told for name, told in self._told.items() if name in names}
        self.deliver([wake for wake in newest if self._told.get(wake.name) != wake])
        self._told.update((wake.name, wake) for wake in newest)
