"""Makes every sync of this process slower, as a disk with a slower write barrier would."""

from __future__ import annotations

import os
from collections.abc import Callable

from gevent.monkey import get_original


def delay_syncs(delay_s: float) -> None:
    """From now on `os.fsync` and `os.fdatasync` take `delay_s` longer.

    The wait is the system's own, not gevent's: it holds up the thread that asked for the sync, whichever that is.
    Modules that have bound the functions by name before this call are not reached.
    """
    sleep = get_original("time", "sleep")

    def slower(sync: Callable[[int], None]) -> Callable[[int], None]:
        def synced(fd: int) -> None:
            sync(fd)
            sleep(delay_s)

        return synced

    os.fsync = slower(os.fsync)  # type: ignore[assignment]
    os.fdatasync = slower(os.fdatasync)
