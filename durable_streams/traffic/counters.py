"""The counters of rates, in bounded memory: a storage for the library ``limits``.

Its own memory storage keeps a counter for every client that ever came until a thread removes it, so a flood of
addresses fills the memory. This one forgets the client that was silent longest. One thread uses it, without locks.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

from limits.storage import Storage
from limits.storage.base import SlidingWindowCounterSupport


class Window(NamedTuple):
    """What one client took in the window of ``number``, and in the one before it; ``ends_at`` is its end."""

    number: int
    previous: int
    current: int
    ends_at: float


class BoundedCounters(Storage, SlidingWindowCounterSupport):
    """At most ``counters_max`` clients. Times are of ``time.time``, as the library's strategies have them."""

    STORAGE_SCHEME = None

    def __init__(self, counters_max: int) -> None:
        super().__init__()
        self._counters_max = counters_max
        self._windows: OrderedDict[str, Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    # -- sliding windows ---------------------------------------------------------------------------------------

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        now = time.time()
        window = self._window(key, now, expiry)
        weighted = window.previous * (window.ends_at - now) / expiry + window.current
        is_taken = weighted + amount <= limit
        self._put(key, window._replace(current=window.current + amount) if is_taken else window)
        return is_taken

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """What the previous window has, for how much longer it counts, and the same of the current one (seconds)."""
        now = time.time()
        window = self._window(key, now, expiry)
        left = window.ends_at - now
        return window.previous, left, window.current, left + expiry

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        self._windows.pop(key, None)

    def _window(self, key: str, now: float, expiry: float) -> Window:
        number = int(now // expiry)
        found = self._windows.get(key)
        if found is not None and found.number == number:
            return found
        previous = found.current if found is not None and found.number == number - 1 else 0
        return Window(number, previous, 0, (number + 1) * expiry)

    def _put(self, key: str, window: Window) -> None:
        self._windows[key] = window
        self._windows.move_to_end(key)
        if len(self._windows) > self._counters_max:
            self._windows.popitem(last=False)

    # -- fixed windows, which every storage of the library has -------------------------------------------------

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        window = self._window(key, time.time(), expiry)
        self._put(key, window._replace(current=window.current + amount))
        return window.current + amount

    def get(self, key: str) -> int:
        found = self._windows.get(key)
        return found.current if found is not None and time.time() < found.ends_at else 0

    def get_expiry(self, key: str) -> float:
        found = self._windows.get(key)
        return time.time() if found is None else found.ends_at

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)
