"""What happens in the worker process around its serving: the storage is opened before, and closed after.

Opening belongs here, after the fork and after gevent has patched the standard library; locks and threads that a
storage makes before would not survive either.
"""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Any

import gevent

from durable_streams.config import SETTINGS, Config, ConfigError
from durable_streams.config.errors import MASK, quote_value
from durable_streams.serving.gc_tuning import tune_gc
from durable_streams.serving.parser_refusals import answer_with_problems
from durable_streams.startup import Phase, refuse_start
from durable_streams.storage.modes import mode_of
from durable_streams.worker.stopping import services_of

log = logging.getLogger("durable_streams.serving")


def begin(worker: Any, config: Config) -> None:
    """In a new worker, before it takes a connection; a storage that cannot be opened ends it."""
    # A terminal sends Ctrl-C to both processes, and the arbiter alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answer_with_problems()
    services = services_of(getattr(worker, "wsgi", None))
    if not services:
        return
    for service in services:
        try:
            service.open()
        except Exception as exc:
            log.debug("the storage could not be opened", exc_info=exc)
            refuse_start(Phase.OPEN_STORAGE, _wrong_place(exc, config), config=config)
    tune_gc()
    _end_waits_on_stop(services)


def _wrong_place(exc: Exception, config: Config) -> str:
    """Said as of every other wrong setting: the key, its value, why not, and where it came from."""
    reason = getattr(exc, "cause", "") or str(exc) or repr(exc)
    if isinstance(exc, OSError) and exc.strerror and exc.filename:
        reason = f"cannot open {exc.filename}: {exc.strerror}"
    key = mode_of(config.storage).place
    value = MASK if SETTINGS[key].secret else quote_value(str(config.value_of(key)))
    return str(ConfigError(reason, key=key, value=value, origin=config.source_of(key)))


def end(arbiter: Any, worker: Any) -> None:
    """gunicorn's hook in a worker that has answered everything: what was accepted becomes durable."""
    for service in services_of(getattr(worker, "wsgi", None)):
        service.close()


def _end_waits_on_stop(services: list[Any]) -> None:
    """gunicorn's own worker would wait for long-polls and event streams until the grace time is over."""
    worker_handler = signal.getsignal(signal.SIGTERM)

    def on_stop(number: int, frame: FrameType | None) -> None:
        for service in services:
            gevent.spawn(service.stop_live)
        if callable(worker_handler):
            worker_handler(number, frame)

    signal.signal(signal.SIGTERM, on_stop)
