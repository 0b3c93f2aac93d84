"""CPU time of this process and of a database, from the clocks that the system keeps of each process."""

from __future__ import annotations

import time
from pathlib import Path


class Clocks:
    """What this process and all of a database's have used since the start of the measurement."""

    def __init__(self, postmaster: int) -> None:
        self._postmaster = postmaster
        self._before = _clocks(postmaster)
        self._own = time.process_time()

    def own_s(self) -> float:
        return time.process_time() - self._own

    def database_s(self) -> float:
        """Sessions that have ended since then are not counted."""
        now = _clocks(self._postmaster)
        return sum(used - self._before.get(pid, 0.0) for pid, used in now.items())


def _clocks(postmaster: int) -> dict[int, float]:
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    found: dict[int, float] = {}
    for pid in (postmaster, *map(int, children)):
        try:
            # The number of a process's CPU clock, as `clock_getcpuclockid` of the C library makes it.
            found[pid] = time.clock_gettime((~pid << 3) | 2)
        except OSError:
            continue
    return found
