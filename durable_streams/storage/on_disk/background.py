"""What a storage does behind the requests: steps that run by themselves, one at a time, and are tried again on failure.

Nothing that was promised depends on a step. What it does, and when it is worth it, is decided by the engines.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import monotonic

import gevent
from gevent.event import Event

from durable_streams.storage.on_disk.disk import says_full

log = logging.getLogger("durable_streams.storage")


class BackgroundStep:
    """``work`` decides each time whether there is anything to do."""

    def __init__(
        self, name: str, work: Callable[[], None], retry_s: float, has_failed: Callable[[], bool]
    ) -> None:
        """``retry_s``: pause after a failure. ``has_failed``: whether the storage writes no more, whatever is tried."""
        self.not_before = 0.0
        self.failures = 0
        self._name = name
        self._work = work
        self._retry_s = retry_s
        self._has_failed = has_failed
        self._found_no_room = False

    def run(self) -> None:
        """Do it now, unless it has failed a short time ago or nothing can be written; raises nothing."""
        if monotonic() < self.not_before or self._has_failed():
            return
        try:
            self._work()
            self._found_no_room = False
        except Exception as exc:
            self.failures += 1
            self.not_before = monotonic() + self._retry_s
            if isinstance(exc, OSError) and says_full(exc) and not self._has_failed():
                self._tell_no_room(exc)
                return
            level = logging.CRITICAL if self._has_failed() else logging.ERROR
            log.log(level, "%s has failed: %s", self._name, exc, exc_info=exc)

    def _tell_no_room(self, exc: OSError) -> None:
        """Once: it is tried again for as long as the disk is full."""
        if not self._found_no_room:
            self._found_no_room = True
            log.warning("%s waits for room: %s", self._name, exc)


class Background:
    """The greenlet that runs the steps every ``interval_s``, and whenever it is woken."""

    def __init__(
        self, steps: Sequence[BackgroundStep], interval_s: float, first: Sequence[BackgroundStep] = ()
    ) -> None:
        """``first``: what is done once, at the beginning."""
        self._steps = steps
        self._first = first
        self._interval_s = interval_s
        self._wake = Event()
        self._is_stopping = False
        self._greenlet = gevent.spawn(self._run)

    @property
    def failures(self) -> int:
        """How often one of the steps has failed."""
        return sum(step.failures for step in (*self._first, *self._steps))

    def wake(self) -> None:
        """Run the steps soon."""
        if not self._wake.is_set():
            self._wake.set()

    def stop(self) -> None:
        """Wait for the step that is running, and run no other."""
        self._is_stopping = True
        self._wake.set()
        self._greenlet.join()

    def _run(self) -> None:
        steps = self._first
        while not self._is_stopping:
            for step in steps:
                if not self._is_stopping:
                    step.run()
            steps = self._steps
            self._wake.wait(self._interval_s)
            self._wake.clear()
