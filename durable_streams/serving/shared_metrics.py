"""The folder through which workers share their metrics: made by the master, inherited, removed at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any, Final

SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own variable. Where it is set already, the folder is made inside the one that it names."""

_made: list[str] = []


def open_folder() -> None:
    """Make the folder, once for this master and for the masters that take over from it; raises OSError."""
    if not _made:
        _made.append(tempfile.mkdtemp(prefix="durable-streams-metrics-", dir=os.environ.get(SHARED_FOLDER)))
        os.environ[SHARED_FOLDER] = _made[0]


def forget(arbiter: Any, worker: Any) -> None:
    """gunicorn's hook in the master when a worker has ended: its gauges count no more, its counters do."""
    if _made:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid, _made[0])


def remove_folder() -> None:
    """Nobody counts any more."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)
