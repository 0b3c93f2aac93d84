"""Tuning of Python's garbage collector in a worker: a collection stops everything else."""

from __future__ import annotations

import gc
from typing import Final

YOUNG_OBJECTS: Final = 20_000
"""More objects than the requests in flight have. With Python's 700, requests that waited for a sync were promoted to
the oldest generation, and a full collection (40 ms with a few hundred streams) came twice a second."""


def tune_gc() -> None:
    """Freeze loaded objects: a full collection over 100,000 streams takes 100 ms."""
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
    gc.freeze()
