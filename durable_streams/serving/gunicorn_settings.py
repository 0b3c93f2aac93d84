"""gunicorn's settings, made from the configuration, and the hooks that check them.

A worker is forked with the configuration that was accepted; `reloading` exchanges it.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from gunicorn.glogging import Logger

from durable_streams.config import Config, ConfigError, ConfigLoadOptions
from durable_streams.serving import shared_metrics, start_checks, tls, worker_hooks
from durable_streams.serving.arbiter import adapt_arbiter
from durable_streams.serving.served import SERVING, Handover, load, timeouts
from durable_streams.startup import ExitCode, Phase, load_config_or_exit, refuse_start
from durable_streams.storage.modes import mode_of
from durable_streams.telemetry import announce_files, announce_listening, announce_stopped, install_logging
from durable_streams.telemetry.redaction import RedactingFilter, redact

WORKER_CLASSES: Final = {
    "stream": "durable_streams.worker.StreamWorker",
    "gevent": "durable_streams.worker.BoundedGeventWorker",
}
# A worker that is silent for so long has its loop blocked for good. Killing it loses what memory mode holds,
# so the limit is far above what a slow disk takes.
WORKER_SILENCE_SECS_MAX: Final = 120

_log: Final = logging.getLogger("durable_streams.serving")


class ServerLog(Logger):  # type: ignore[misc]
    """gunicorn's own messages, through the handler and the filter of everything else."""

    start_is_refused = False

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        # A file that is named on gunicorn's command line gets gunicorn's messages.
        if cfg.errorlog == "-":
            self._set_handler(self.error_log, None, None)
            self.error_log.setLevel(logging.NOTSET)
            self.error_log.propagate = True
        else:
            self.error_log.addFilter(RedactingFilter())

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> dict[str, Any]:
        """What an access log of gunicorn's own, which is off by default, may print of a request."""
        found = super().atoms(resp, req, environ, request_time)
        return {name: redact(value) if isinstance(value, str) else value for name, value in found.items()}

    def error(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """A worker that could not start has logged the reason; gunicorn's three lines would hide it."""
        if args[1:] == (ExitCode.WORKER_NOT_STARTED,):
            self.start_is_refused = True
        if not self.start_is_refused:
            super().error(msg, *args, **kwargs)


def configure(options: ConfigLoadOptions | None = None) -> dict[str, Any]:
    """gunicorn's settings for the configuration that `options` name.

    Ends the process with one line when that is wrong.
    """
    SERVING.options = options or ConfigLoadOptions()
    try:
        SERVING.served = load(SERVING.options)
    except ConfigError as exc:
        refuse_start(Phase(exc.phase), str(exc))
    config = SERVING.served.config
    install_logging(config.log)
    return gunicorn_settings(config)


def served_config() -> Config:
    """The configuration that `configure` has accepted in this process or in the one it was forked from.

    Under another WSGI server there is none: then it is loaded here.
    """
    if SERVING.served is not None:
        return SERVING.served.config
    config = load_config_or_exit()
    install_logging(config.log)
    return config


def gunicorn_settings(config: Config) -> dict[str, Any]:
    """gunicorn's settings by name. `workers` is not among them: a wrong number must be seen, not hidden."""
    return {
        "bind": [_bind_address(config)],
        "backlog": config.server.backlog,
        "worker_class": WORKER_CLASSES[config.server.worker_class],
        "worker_connections": config.server.worker_connections,
        # StrictRequest limits heads as a whole; within one, no line has a limit of its own.
        "limit_request_line": 0,
        "limit_request_field_size": config.limits.max_head_bytes,
        **timeouts(config),
        **_proxy_settings(config),
        "timeout": WORKER_SILENCE_SECS_MAX,
        "certfile": _text_or_none(config.tls.cert_path),
        "keyfile": _text_or_none(config.tls.key_path),
        "ssl_context": tls.ssl_context,
        # The strict parser: its C sibling takes heads whose lines end in bare line feeds.
        "http_parser": "python",
        "accesslog": None,
        "logger_class": ServerLog,
        "proc_name": "durable-streams-server",
        "control_socket_disable": True,
        "on_starting": check_start,
        "post_fork": worker_hooks.hold_reloads,
        "post_worker_init": begin_serving,
        "worker_exit": worker_hooks.end,
        "child_exit": shared_metrics.forget,
        "nworkers_changed": keep_one_worker,
        "on_exit": announce_exit,
    }


def _proxy_settings(config: Config) -> dict[str, Any]:
    """gunicorn's own belief in X-Forwarded-Proto, where the settings say whom to believe."""
    if not config.proxy.trusted:
        return {}
    schemes = {"X-FORWARDED-PROTO": "https"} if config.proxy.headers == "x-forwarded" else {}
    return {"forwarded_allow_ips": ",".join(config.proxy.trusted), "secure_scheme_headers": schemes}


def _bind_address(config: Config) -> str:
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    return f"{host}:{config.server.port}"


def _text_or_none(path: object | None) -> str | None:
    return None if path is None else str(path)


def check_start(arbiter: Any) -> None:
    """gunicorn's hook before it listens: what would fail or mislead later is refused now."""
    mode = mode_of(served_config().storage)
    reason = start_checks.unfit_setting(arbiter.cfg, mode, served_config().metrics.enabled)
    if reason is not None:
        _refuse(arbiter, Phase.VALIDATE_CONFIG, reason)
    reason = (
        start_checks.access_obstacle(served_config())
        or start_checks.extra_obstacle(served_config())
        or start_checks.open_admin(arbiter.cfg, served_config())
    )
    if reason is not None:
        _refuse(arbiter, Phase.VALIDATE_CONFIG, reason)
    reason = start_checks.listening_obstacle(arbiter)
    if reason is not None:
        _refuse(arbiter, Phase.BIND_LISTENER, reason)
    if not arbiter.cfg.worker_tmp_dir:
        folder = start_checks.heartbeat_folder(served_config())
        if folder is None:
            _refuse(arbiter, Phase.START_SERVER, start_checks.NO_HEARTBEAT)
        arbiter.cfg.set("worker_tmp_dir", folder)
    connections = arbiter.cfg.worker_connections
    is_protected = served_config().auth.mode != "none" or served_config().tls.client_ca_path is not None
    for warning in (
        start_checks.exposure(arbiter.cfg, is_protected),
        start_checks.raise_descriptor_limit(connections),
        start_checks.no_admission(arbiter.cfg, served_config()),
    ):
        if warning is not None:
            _log.warning("%s", warning)
    if mode.shared and served_config().metrics.enabled:
        shared_metrics.open_folder()
    SERVING.handover = Handover()
    adapt_arbiter(arbiter, mode)


def _refuse(arbiter: Any, phase: Phase, reason: str) -> None:
    if arbiter.pidfile is not None:
        arbiter.pidfile.unlink()
    refuse_start(phase, reason, config=served_config())


def begin_serving(worker: Any) -> None:
    """gunicorn's hook in a new worker. The storage's guarantee is logged after it has been opened."""
    config = served_config()
    worker_hooks.begin(worker, config)
    scheme = "https" if worker.cfg.is_ssl else "http"
    urls = [start_checks.listener_url(listener, scheme) for listener in worker.sockets]
    announce_files(config)
    announce_listening(urls, mode_of(config.storage), worker.ppid)


def keep_one_worker(arbiter: Any, new_count: int, old_count: int | None) -> None:
    """gunicorn's hook for SIGTTIN and reloads: a second worker would answer from a storage of its own."""
    mode = mode_of(served_config().storage)
    if old_count is None or new_count <= 1 or mode.shared:
        return
    _log.warning("%s", start_checks.ONE_WORKER.format(count=new_count, mode=mode.name))
    arbiter.cfg.set("workers", 1)
    arbiter._num_workers = 1


def announce_exit(arbiter: Any) -> None:
    """gunicorn's hook when everything has ended."""
    shared_metrics.remove_folder()
    if not getattr(arbiter.log, "start_is_refused", False):
        announce_stopped()
