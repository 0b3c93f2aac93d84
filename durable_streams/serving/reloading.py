"""SIGHUP: the master reads and checks the configuration; workers that run take it over and keep what they hold.

All of it is taken or nothing. A setting that needs a restart is a reason to take nothing: half a configuration would
be served, and a worker that ended for it would lose what a memory mode holds.
"""

from __future__ import annotations

import logging
import signal
from typing import Any, Final

from durable_streams.config import Config, ConfigError, ConfigLoadOptions
from durable_streams.config.reloading import changed_keys, restart_keys
from durable_streams.serving import expiry, tls
from durable_streams.serving.parser_refusals import answer_with_problems
from durable_streams.serving.served import SERVING, Served, load, timeouts
from durable_streams.telemetry import install_logging
from durable_streams.worker import StreamWorker
from durable_streams.worker.client_socket import LiveSocketOffer

CERTIFICATE: Final = "the certificate"

_log: Final = logging.getLogger("durable_streams.serving")


def reload(arbiter: Any) -> None:
    """In the master: take the configuration as it is now, or say in one line why it is kept as it was."""
    before = SERVING.served
    if before is None:
        raise RuntimeError("a configuration is reloaded before one was loaded")
    arbiter.log.reopen_files()
    try:
        after = load(SERVING.options or ConfigLoadOptions())
        changed = _changes(before, after)
    except ConfigError as exc:
        _log.error("the configuration is kept as it was: %s", exc)
        return
    if not changed:
        _log.info("reloaded: nothing has changed")
        return
    SERVING.served = after = after._replace(revision=before.revision + 1)
    install_logging(after.config.log)
    _set_timeouts(arbiter.cfg, before, after)
    if SERVING.handover is not None:
        SERVING.handover.put(after)
    # The signal by which gunicorn tells its workers to open their logs again: harmless to one that has just begun.
    arbiter.kill_workers(signal.SIGUSR1)
    _log.info("reloaded: %s", ", ".join(changed))


def _changes(before: Served, after: Served) -> list[str]:
    """What differs, by name. Raises ConfigError when a restart is needed for some of it."""
    fixed = restart_keys(before.config, after.config)
    if fixed:
        raise ConfigError(f"a restart is needed to change {', '.join(fixed)}")
    changed = changed_keys(before.config, after.config)
    return [*changed, CERTIFICATE] if before.tls != after.tls else changed


def _set_timeouts(cfg: Any, before: Served, after: Served) -> None:
    """Only those that changed: the others may have come from gunicorn's command line."""
    for name, value in timeouts(after.config).items():
        if timeouts(before.config)[name] != value:
            cfg.set(name, value)


def take_over(worker: Any) -> None:
    """In a worker: serve what the master has accepted since, if anything. Requests that run end as they began."""
    # Imported in the worker alone, after gevent has patched the standard library.
    from durable_streams.app import REBUILD
    from durable_streams.web.cors import CorsHeaders

    before = SERVING.served
    after = SERVING.handover.take() if SERVING.handover is not None else None
    if before is None or after is None or after.revision <= before.revision:
        return
    SERVING.served = after
    install_logging(after.config.log)
    _set_timeouts(worker.cfg, before, after)
    answer_with_problems(CorsHeaders(after.config.http).of_unread)
    tls.renew(worker.cfg)
    expiry.look()
    rebuild = getattr(application_of(worker), "extensions", {}).get(REBUILD)
    if rebuild is not None:
        serve_application(worker, rebuild(after.config), after.config)


def application_of(worker: Any) -> Any:
    """The application itself, below what the worker or this server has put around it."""
    return getattr(worker, "application", None) or getattr(worker.wsgi, "application", worker.wsgi)


def serve_application(worker: Any, application: Any, config: Config) -> None:
    """Requests that come from now on are answered by ``application``."""
    worker.write_timeout_s = config.server.write_timeout_secs
    if isinstance(worker, StreamWorker):
        worker.application = application
        worker.keeps_alive = worker.cfg.keepalive > 0
    worker.wsgi = LiveSocketOffer(application, config.server.write_timeout_secs)
