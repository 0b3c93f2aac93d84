"""One subscription as this process has it: what is recorded of it, and which of its streams are pending now.

What is pending is never stored. It follows from the cursors and the tails, is worked out when the subscription is
loaded, and is kept up to date by the wakes of its streams.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic, time

from gevent.lock import RLock

from durable_streams.protocol.state import StreamState
from durable_streams.protocol.subscriptions import events
from durable_streams.protocol.subscriptions.state import Subscription
from durable_streams.streams.internal.histories import Version


class SteadyClock:
    """Seconds since 1970 as they were at the start, and from then on as they pass: nobody can set it while it runs."""

    def __init__(self) -> None:
        self._offset = time() - monotonic()

    def __call__(self) -> float:
        return self._offset + monotonic()


class Tracked:
    """A subscription in this process. Whoever changes it holds ``lock``."""

    __slots__ = (
        "_sub",
        "announced",
        "behind",
        "id",
        "lock",
        "noticed",
        "pending_since",
        "rest_until",
        "snapshot_bytes",
        "timer_at",
        "version",
    )

    def __init__(self, subscription_id: str) -> None:
        self.id = subscription_id
        self.lock = RLock()
        self._sub: Subscription | None = None
        self.version: Version | None = None
        """Of the history that the subscription was made from."""
        self.snapshot_bytes = 0
        """Size of the history when it was last begun anew."""
        self.behind: dict[str, StreamState] = {}
        """The linked streams that are pending, in the order in which they became so."""
        self.pending_since: float | None = None
        self.noticed: dict[str, None] | None = None
        """While the subscription is being made: the streams that have changed meanwhile."""
        self.announced = 0
        """The newest generation whose wake event this process has appended."""
        self.rest_until = 0.0
        """No step is taken before: the last one met an error of the storage."""
        self.timer_at: float | None = None
        """When the dispatcher will look at it by itself."""

    @property
    def sub(self) -> Subscription:
        """The subscription; only for one that ``exists``."""
        assert self._sub is not None
        return self._sub

    @property
    def exists(self) -> bool:
        """Whether it has been made, and was not deleted since."""
        return self._sub is not None

    def begin(self, found: Subscription | None, version: Version | None, snapshot_bytes: int) -> None:
        """Be what ``found`` is, with nothing known of its streams."""
        self._sub, self.version, self.snapshot_bytes = found, version, snapshot_bytes
        self.behind.clear()
        self.pending_since = None

    def apply(self, happened: Iterable[events.Event]) -> None:
        for event in happened:
            self._sub = events.apply(self._sub, event)

    def see(self, path: str, stream: StreamState | None, now: float) -> bool:
        """Take note of a linked stream as it is now; whether the subscription has become pending by it."""
        known = self.behind.get(path)
        if known is not None and stream is not None and _is_older(stream, known):
            return False
        if not self.sub.is_pending(path, stream):
            self.forget(path)
            return False
        assert stream is not None
        was_behind = bool(self.behind)
        self.behind[path] = stream
        if not was_behind:
            self.pending_since = now
        return not was_behind

    def forget(self, path: str) -> None:
        if self.behind.pop(path, None) is not None and not self.behind:
            self.pending_since = None

    def linked_paths(self) -> set[str]:
        """All streams that it is linked to, as far as they have been seen."""
        return self.sub.links.keys() | self.behind.keys()


def _is_older(stream: StreamState, known: StreamState) -> bool:
    """An answer of a shared storage may arrive after news that came later."""
    return stream.config.uid == known.config.uid and stream.tail < known.tail
