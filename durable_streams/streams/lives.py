"""Lives: the number that tells a stream from every other that ever had its name (section 8).

A life is the creation time in microseconds. Two rules keep it from repeating:

* Lives given out by one process strictly increase, whatever the clock does, and exceed the life of every stream that
  the process has seen go. So a stream that replaces another of the same name has a later life.
* Over a restart only the clock remembers. If it was set back meanwhile, the life of a new stream can be earlier than
  that of a stream deleted before; it is the same only if both were created in the very same microsecond.
"""

from __future__ import annotations

import os
from typing import Final

from durable_streams.storage.contract import Change

MICROSECONDS_A_SECOND: Final = 1_000_000


class Lives:
    """The lives of the streams that this process creates."""

    def __init__(self) -> None:
        self._newest = 0

    def begin(self, now: float, source_life: int = 0) -> int:
        """A life for a stream created at ``now`` (seconds since 1970), later than all known here and its source's."""
        self._newest = max(int(now * MICROSECONDS_A_SECOND), self._newest + 1, source_life + 1)
        return self._newest

    def settle(self, change: Change) -> None:
        """``change`` is recorded: a stream may have gone with it."""
        if change.before is not None and (change.after is None or change.is_new):
            self.end(change.before.config.life)

    def end(self, life: int) -> None:
        """A stream of that life has gone; those that follow begin later."""
        self._newest = max(self._newest, life)


def new_uid() -> str:
    """A name for one life of a stream that storages keep its bytes by: random, and unique among all streams."""
    return os.urandom(8).hex()
