"""When Python's garbage collector runs in a worker. It stops everything else while it walks over what is alive."""

from __future__ import annotations

import gc
from typing import Final

YOUNG_OBJECTS: Final = 20_000
"""More than the requests in flight are made of. With Python's 700, whatever was waiting for a sync was taken for
long-lived, so that a full collection, 40 ms with a few hundred streams, came twice a second."""


def tune_gc() -> None:
    """Leave out what has been loaded so far: 100,000 streams take 100 ms, again and again."""
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
    gc.freeze()
