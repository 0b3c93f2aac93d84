"""Changes to gunicorn's arbiter, for a storage that has one owner.

SIGTERM and Ctrl-C are the same orderly stop. SIGHUP reloads without ending a worker. SIGUSR2, a second master beside
the first, is refused where each master would have a storage of its own. A pause of both processes ends no worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from durable_streams.serving.reloading import reload
from durable_streams.serving.worker_watch import WorkerWatch
from durable_streams.storage.modes import Mode
from durable_streams.telemetry import announce_stopping

STOP_SLACK_SECS: Final = 2
"""After its grace a worker breaks the connections that are left, for a second at most, and closes the storage."""
SECOND_MASTER: Final = (
    "SIGUSR2 is ignored: storage mode %s has one owner, and a second master would answer from a storage of its own; "
    "restart the server instead"
)

_log: Final = logging.getLogger("durable_streams.serving")


def adapt_arbiter(arbiter: Any, mode: Mode) -> None:
    """Replace methods of the arbiter. Called before it listens."""
    stop = arbiter.handle_term
    arbiter.handle_term = _stop_on("SIGTERM", stop)
    # gunicorn's own handler would break every connection.
    arbiter.handle_int = _stop_on("SIGINT", stop)
    arbiter.stop = _stop_later_than_the_worker(arbiter)
    arbiter.handle_hup = lambda: reload(arbiter)
    arbiter.murder_workers = WorkerWatch(arbiter).end_silent
    if not mode.shared:
        arbiter.handle_usr2 = lambda: _log.warning(SECOND_MASTER, mode.name)


def _stop_later_than_the_worker(arbiter: Any) -> Callable[[bool], None]:
    """gunicorn's master kills at the very moment at which the worker's own grace ends, before its storage is closed."""
    stop = arbiter.stop

    def stop_and_tell(graceful: bool = True) -> None:
        arbiter.stop = stop
        arbiter.cfg.set("graceful_timeout", arbiter.cfg.graceful_timeout + STOP_SLACK_SECS)
        stop(graceful)
        if arbiter.WORKERS:
            _log.warning("the worker did not end in time and was killed")

    return stop_and_tell


def _stop_on(name: str, stop: Callable[[], None]) -> Callable[[], None]:
    def announce_and_stop() -> None:
        announce_stopping(name)
        stop()

    return announce_and_stop
