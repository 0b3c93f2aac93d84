"""When the master ends a silent worker: after time in which both were running.

gunicorn compares clocks: after a pause of the whole process (a container that is paused, a lid that is closed) it
would end a healthy worker that has not had the time to give a sign, and memory mode would lose everything.
"""

from __future__ import annotations

import signal
from time import monotonic
from typing import Any, Final

ROUND_SECS_MAX: Final = 1.5
"""A running master checks about once a second; during the rest of a longer round it was not running."""


class WorkerWatch:
    """Replaces ``Arbiter.murder_workers``, which gunicorn calls once a round."""

    def __init__(self, arbiter: Any) -> None:
        self._arbiter = arbiter
        self._last_round = monotonic()
        self._seen: dict[int, tuple[float, float]] = {}
        """By process: its last sign as it was seen, and for how many seconds of rounds it has not changed."""

    def end_silent(self) -> None:
        """Ask a worker that was silent for gunicorn's ``timeout`` to end, and kill it if it is still there."""
        arbiter, now = self._arbiter, monotonic()
        elapsed = min(now - self._last_round, ROUND_SECS_MAX)
        self._last_round = now
        seen, self._seen = self._seen, {}
        for pid, worker in list(arbiter.WORKERS.items()):
            sign = worker.tmp.last_update()
            last_sign, silent = seen.get(pid, (sign, 0.0))
            silent = silent + elapsed if sign == last_sign else 0.0
            self._seen[pid] = (sign, silent)
            if arbiter.timeout and silent > arbiter.timeout:
                self._end(pid, worker)

    def _end(self, pid: int, worker: Any) -> None:
        if worker.aborted:
            self._arbiter.kill_worker(pid, signal.SIGKILL)
            return
        self._arbiter.log.critical("WORKER TIMEOUT (pid:%s)", pid)
        worker.aborted = True
        self._arbiter.kill_worker(pid, signal.SIGABRT)
