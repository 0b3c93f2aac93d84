"""What happens in the worker process around its serving: the storage is opened before, and closed after.

A storage opens here, after the fork and after gevent has patched the standard library: locks and threads that it made
earlier would survive neither.
"""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Any

import gevent

from durable_streams.config import SETTINGS, Config, ConfigError
from durable_streams.config.errors import MASK, quote_value
from durable_streams.eventloop import stopping
from durable_streams.serving import expiry
from durable_streams.serving.gc_tuning import tune_gc
from durable_streams.serving.parser_refusals import answer_with_problems
from durable_streams.serving.reloading import take_over
from durable_streams.startup import Phase, refuse_start
from durable_streams.storage.modes import mode_of
from durable_streams.web.cors import CorsHeaders
from durable_streams.worker import BoundedGeventWorker, StreamWorker
from durable_streams.worker.admission import Admission
from durable_streams.worker.client_socket import LiveSocketOffer
from durable_streams.worker.strict_requests import StrictRequest, use_strict_requests

log = logging.getLogger("durable_streams.serving")


def hold_reloads(arbiter: Any, worker: Any) -> None:
    """gunicorn's hook after the fork. SIGUSR1 waits until the worker handles it.

    gunicorn gives it its default meaning, which ends the process, before its own.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})


def begin(worker: Any, config: Config) -> None:
    """In a new worker, before it takes a connection; a storage that cannot be opened ends it."""
    # A terminal sends Ctrl-C to both processes, and the arbiter alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answer_with_problems(CorsHeaders(config.http).of_unread)
    use_strict_requests()
    StrictRequest.head_bytes_max = config.limits.max_head_bytes
    _open_services(worker, config)
    tune_gc()
    if isinstance(worker, (StreamWorker, BoundedGeventWorker)):
        worker.admission = Admission(worker.worker_connections, config.limits.max_connections_per_client)
    if isinstance(worker, StreamWorker):
        worker.write_timeout_s = config.server.write_timeout_secs
    else:
        worker.wsgi = LiveSocketOffer(worker.wsgi, config.server.write_timeout_secs)
        _drain_on_sigterm(worker)
    _reload_on_sigusr1(worker)
    expiry.watch()


def _reload_on_sigusr1(worker: Any) -> None:
    """Beside opening gunicorn's logs again. What the master accepted before this was in force is taken at once."""
    reopen_logs = signal.getsignal(signal.SIGUSR1)

    def on_reload(number: int, frame: FrameType | None) -> None:
        if callable(reopen_logs):
            reopen_logs(number, frame)
        gevent.spawn(take_over, worker)

    signal.signal(signal.SIGUSR1, on_reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    gevent.spawn(take_over, worker)


def _open_services(worker: Any, config: Config) -> None:
    from durable_streams.service import StreamService

    for service in getattr(worker.wsgi, "extensions", {}).values():
        if isinstance(service, StreamService):
            try:
                service.open()
            except Exception as exc:
                log.debug("the storage could not be opened", exc_info=exc)
                refuse_start(Phase.OPEN_STORAGE, _wrong_place(exc, config), config=config)


def _wrong_place(exc: Exception, config: Config) -> str:
    """In the form of every other wrong setting: the key, its value, why not, and where it came from."""
    reason = getattr(exc, "cause", "") or str(exc) or repr(exc)
    if isinstance(exc, OSError) and exc.strerror and exc.filename:
        reason = f"cannot open {exc.filename}: {exc.strerror}"
    key = mode_of(config.storage).place
    value = MASK if SETTINGS[key].secret else quote_value(str(config.value_of(key)))
    return str(ConfigError(reason, key=key, value=value, origin=config.source_of(key)))


def end(arbiter: Any, worker: Any) -> None:
    """gunicorn's hook in a worker that has answered everything. StreamWorker has ended the stop itself."""
    if not isinstance(worker, StreamWorker):
        stopping.finish()


def _drain_on_sigterm(worker: Any) -> None:
    """gunicorn's own worker would wait for long-polls and event streams until the grace time is over.

    It looks once a second, so it would also end a second after that.
    """
    worker_handler = signal.getsignal(signal.SIGTERM)

    def on_stop(number: int, frame: FrameType | None) -> None:
        gevent.spawn(stopping.drain)
        worker.cfg.set("graceful_timeout", max(0, worker.cfg.graceful_timeout - 1))
        if callable(worker_handler):
            worker_handler(number, frame)

    signal.signal(signal.SIGTERM, on_stop)
