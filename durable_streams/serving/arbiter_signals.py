"""What gunicorn's arbiter does on a signal, where its own way does not suit a storage that has one
owner.

SIGTERM and Ctrl-C are the same orderly stop. SIGHUP ends the worker before it starts the next one: two at a
time would want the same data directory. Connections wait in the kernel meanwhile, since the arbiter goes on
listening.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from durable_streams.telemetry import announce_stopping

# gunicorn's worker looks once a second whether its requests have ended.
STOP_SLACK_SECS: Final = 2.0
POLL_SECS: Final = 0.02
SETTINGS_MODULE: Final = "durable_streams.gunicorn_conf"

_log: Final = logging.getLogger("durable_streams.serving")


def take_over_signals(arbiter: Any) -> None:
    """Put the handlers of this module in the place of the arbiter's own. Called before it listens."""
    stop = arbiter.handle_term
    arbiter.handle_term = _stop_on("SIGTERM", stop)
    # gunicorn's own handler would break every connection.
    arbiter.handle_int = _stop_on("SIGINT", stop)
    arbiter.handle_hup = lambda: reload_in_turn(arbiter)


def _stop_on(name: str, stop: Callable[[], None]) -> Callable[[], None]:
    def announce_and_stop() -> None:
        announce_stopping(name)
        stop()

    return announce_and_stop


def reload_in_turn(arbiter: Any) -> None:
    """Read the configuration again and serve with it; the new worker starts when the old one has ended."""
    _log.info("reloading: the worker ends, and another one starts with the configuration as it is now")
    arbiter.kill_workers(signal.SIGTERM)
    if not _workers_end(arbiter, arbiter.cfg.graceful_timeout + STOP_SLACK_SECS):
        _log.warning("the worker did not end in time and is killed")
        arbiter.kill_workers(signal.SIGKILL)
        _workers_end(arbiter, STOP_SLACK_SECS)
    # gunicorn imports settings named as `python:...` once; a reload has to make them again.
    sys.modules.pop(SETTINGS_MODULE, None)
    arbiter.reload()


def _workers_end(arbiter: Any, secs_max: float) -> bool:
    """Whether all workers are gone within the time."""
    deadline = time.monotonic() + secs_max
    while arbiter.WORKERS and time.monotonic() < deadline:
        time.sleep(POLL_SECS)
        arbiter.reap_workers()
    return not arbiter.WORKERS
