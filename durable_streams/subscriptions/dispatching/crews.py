"""Steps under way: so many at once, and of one subscription one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final

import gevent

from durable_streams.protocol.errors import ProtocolError
from durable_streams.subscriptions.tracked import Tracked

STEPS_MAX: Final = 64
"""Steps under way at once that wait for storage alone; they share commits."""
PAUSE_S: Final = 1.0
"""How long a subscription rests after an error of the storage."""
STOP_S: Final = 3.0
"""How long deliveries under way may take to end when the server stops; then they are cut off, and made again later."""

Work = Callable[[Tracked], None]

log = logging.getLogger("durable_streams.subscriptions")


class Crews:
    """Two crews: one waits for receivers, the other for storage alone, so that slow receivers hold up no claim."""

    def __init__(self, deliveries_max: int, clock: Callable[[], float], ended: Work) -> None:
        """``ended`` is told of each step that has ended, however it did."""
        self.deliveries = Crew(deliveries_max)
        self.steps = Crew(STEPS_MAX)
        self._clock = clock
        self._ended = ended
        self._busy: set[Tracked] = set()

    def __contains__(self, tracked: Tracked) -> bool:
        """Whether a step of that subscription is under way."""
        return tracked in self._busy

    def __len__(self) -> int:
        return len(self._busy)

    def begin(self, crew: Crew, tracked: Tracked, work: Work) -> None:
        """Start ``work``, or have the subscription wait in line. ``work`` waits, and may raise a ProtocolError."""
        if crew.begin(tracked, lambda: self._carry_out(crew, tracked, work)):
            self._busy.add(tracked)

    def next_in_line(self) -> Iterator[Tracked]:
        """Those for whom there is room now, taken out of the lines."""
        yield from self.deliveries.next_in_line()
        yield from self.steps.next_in_line()

    def end(self) -> None:
        """Wait for what is under way, and cut it off after STOP_S."""
        gevent.joinall([gevent.spawn(crew.end, STOP_S) for crew in (self.deliveries, self.steps)])

    def _carry_out(self, crew: Crew, tracked: Tracked, work: Work) -> None:
        try:
            work(tracked)
        except ProtocolError as exc:
            if tracked.exists:
                log.warning("subscription %r waits: %r", tracked.id, exc)
            tracked.rest_until = self._clock() + PAUSE_S
        except Exception:
            log.exception("a step of subscription %r failed", tracked.id)
            tracked.rest_until = self._clock() + PAUSE_S
        finally:
            # The place is free before anybody is told, or nobody would look at the line again.
            crew.leave()
            self._busy.discard(tracked)
            self._ended(tracked)


class Crew:
    """Greenlets that may work at once; a subscription that finds none free waits in line."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._at_work: set[gevent.Greenlet[[], None]] = set()
        self._line: dict[Tracked, None] = {}

    def begin(self, tracked: Tracked, work: Callable[[], None]) -> bool:
        """Start ``work``, which calls ``leave`` at its end; or have ``tracked`` wait in line."""
        if len(self._at_work) >= self._size:
            self._line[tracked] = None
            return False
        self._at_work.add(gevent.spawn(work))
        return True

    def leave(self) -> None:
        """The work of the greenlet that calls has ended."""
        self._at_work.discard(gevent.getcurrent())

    def next_in_line(self) -> list[Tracked]:
        free = self._size - len(self._at_work)
        some = [tracked for tracked, _ in zip(self._line, range(free), strict=False)]
        for tracked in some:
            del self._line[tracked]
        return some

    def end(self, timeout_s: float) -> None:
        at_work = list(self._at_work)
        gevent.joinall(at_work, timeout=timeout_s)
        gevent.killall(at_work)
