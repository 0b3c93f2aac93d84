"""Checks before the server listens: gunicorn's settings, the address, the limits of the system.

Each check returns the reason for a refusal, or None; the caller decides what to do with it.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import tempfile
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from gunicorn.util import is_ipv6

from durable_streams.access.signed_urls import read_url_keys
from durable_streams.access.token_file import read_records
from durable_streams.access.watched_file import FileDamaged
from durable_streams.config import Config
from durable_streams.extras import MissingExtra, require_extra
from durable_streams.otel import building as otel
from durable_streams.storage.modes import Mode, mode_of
from durable_streams.traffic.building import counts_traffic

ONE_WORKER: Final = (
    "workers = {count}: storage mode {mode} lives in one process, and workers would each answer from their own; "
    "run one (leave out --workers, and set WEB_CONCURRENCY to 1 or not at all)"
)
PRELOAD: Final = (
    "preload: storage opens in the worker, after gevent has patched the standard library; leave it out"
)
NO_HEARTBEAT: Final = (
    "no folder can be written to for the sign of life of a worker: mount a tmpfs at /dev/shm or /tmp, or name a folder "
    "with GUNICORN_CMD_ARGS=--worker-tmp-dir=FOLDER"
)
EXPOSED: Final = (
    "{host} is every address of this machine, and there is no access control (auth.mode = none): whoever reaches the "
    "port may read, write and delete every stream; set DS_SERVER__HOST=127.0.0.1, or put a proxy or a firewall in front"
)
NO_ADMISSION: Final = (
    "worker class {name}: when server.worker_connections = {connections} are taken, further connections wait "
    "in the kernel, those of /healthz and /readyz too{client}; leave out --worker-class"
)
NO_CLIENT_LIMIT: Final = ", and limits.max_connections_per_client = {limit} does not hold"
OPEN_ADMIN: Final = (
    "admin.enabled: without access control (auth.mode = none) the admin API is for this machine alone, and the server "
    "would listen on {host}; set DS_AUTH__MODE=tokens, or DS_SERVER__HOST=127.0.0.1"
)
SHARED_MEMORY: Final = "/dev/shm"
PORT_WAIT_SECS: Final = 3.0
"""A worker whose master was killed listens until its next look, up to a second, and until it has ended."""
PORT_POLL_SECS: Final = 0.05
# Files of storage, listeners, pipes and libraries, beside one descriptor a connection.
SPARE_DESCRIPTORS: Final = 1024


def unfit_setting(cfg: Any, mode: Mode, counts: bool = False) -> str | None:
    """Why gunicorn's settings, wherever they came from, or what is installed do not fit this server and its mode."""
    try:
        mode.check_installed()
        if counts:
            require_extra("metrics", "metrics.enabled = true")
    except MissingExtra as exc:
        return str(exc)
    if cfg.workers < 1 or (cfg.workers > 1 and not mode.shared):
        return ONE_WORKER.format(count=cfg.workers, mode=mode.name)
    if cfg.preload_app:
        return PRELOAD
    from gunicorn.workers.ggevent import GeventWorker

    if not issubclass(cfg.worker_class, GeventWorker):
        return (
            f"worker class {cfg.worker_class_str}: live reads need a gevent worker; leave out --worker-class"
        )
    return None


def heartbeat_folder(config: Config) -> str | None:
    """The folder of the file whose time is the worker's heartbeat; also where the root file system is read-only."""
    candidates = [SHARED_MEMORY, *_temporary_folders()]
    if mode_of(config.storage).place == "storage.data_dir":
        candidates.append(str(config.storage.data_dir))
    return next((folder for folder in candidates if _is_writable(folder)), None)


def _temporary_folders() -> list[str]:
    try:
        return [tempfile.gettempdir()]
    except FileNotFoundError:
        return []


def _is_writable(folder: str) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def listening_obstacle(arbiter: Any) -> str | None:
    """Why an address cannot be listened on. gunicorn itself would try for five seconds and say so five
    times.
    """
    if arbiter.LISTENERS or arbiter.master_pid or os.environ.get("LISTEN_FDS") or arbiter.cfg.reuse_port:
        return None
    for address in arbiter.cfg.address:
        if isinstance(address, tuple):
            reason = address_obstacle(*address[:2])
            if reason is not None:
                return reason
    return None


def address_obstacle(host: str, port: int) -> str | None:
    """Why `host`:`port` cannot be listened on, found out by binding it for a moment. Waits for a port in use."""
    deadline = time.monotonic() + PORT_WAIT_SECS
    while True:
        try:
            _bind(host, port)
            return None
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                return f"cannot listen on {_authority(host, port)}: {_plain_reason(exc)}"
        time.sleep(PORT_POLL_SECS)


def _bind(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if is_ipv6(host) else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _plain_reason(exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return "the port is in use by another process; set DS_SERVER__PORT to another one"
    if exc.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have the address"
    if exc.errno == errno.EACCES:
        return "ports below 1024 need a privilege"
    return str(exc.strerror or exc)


def listener_url(listener: socket.socket, scheme: str) -> str:
    """Where a listening socket is reached, with the port that it really has."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{_authority(host, port)}"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def access_obstacle(config: Config) -> str | None:
    """Why nobody could be let in: tokens or keys that cannot be read, or a package that is missing."""
    auth = config.auth
    reason = _unreadable("auth.url_keys_path", read_url_keys, auth.url_keys_path)
    if reason is not None:
        return reason
    if auth.mode == "tokens":
        return _unreadable("auth.tokens_path", read_records, auth.tokens_path)
    if auth.mode == "none":
        return None
    try:
        require_extra("jwt", "auth.mode = jwt")
    except MissingExtra as exc:
        return str(exc)
    from durable_streams.access.json_web_tokens.keys import read_key_file

    return _unreadable("auth.jwt_keys_path", read_key_file, auth.jwt_keys_path)


def extra_obstacle(config: Config) -> str | None:
    """Why rates could not be kept or traces not be sent: a package that is missing, a variable that is wrong."""
    try:
        if counts_traffic(config):
            require_extra("rates", "rates and quotas")
        if config.otel.enabled:
            require_extra(otel.EXTRA, otel.PURPOSE)
            return otel.unfit_variable(os.environ)
    except MissingExtra as exc:
        return str(exc)
    return None


def _unreadable(setting: str, read: Callable[[Path], object], path: Path | None) -> str | None:
    try:
        if path is not None:
            read(path)
    except (FileDamaged, OSError) as exc:
        return f"{setting}: {exc}"
    return None


def open_admin(cfg: Any, config: Config) -> str | None:
    """Why the pages of operators are refused: without access control they are for this machine alone."""
    if not config.admin.enabled or config.auth.mode != "none":
        return None
    hosts = [address[0] for address in cfg.address if isinstance(address, tuple)]
    foreign = next((host for host in hosts if not _is_loopback(host)), None)
    return None if foreign is None else OPEN_ADMIN.format(host=foreign)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def exposure(cfg: Any, is_protected: bool = False) -> str | None:
    """What to warn of when everybody who reaches this machine may do everything."""
    if is_protected:
        return None
    hosts = [address[0] for address in cfg.address if isinstance(address, tuple) and _is_any(address[0])]
    return EXPOSED.format(host=hosts[0]) if hosts else None


def no_admission(cfg: Any, config: Config) -> str | None:
    """What a worker that is not ours does not do when all connections are taken."""
    if hasattr(cfg.worker_class, "admission"):
        return None
    limit = config.limits.max_connections_per_client
    client = NO_CLIENT_LIMIT.format(limit=limit) if limit else ""
    return NO_ADMISSION.format(name=cfg.worker_class_str, connections=cfg.worker_connections, client=client)


def _is_any(host: str) -> bool:
    try:
        return not host or ip_address(host).is_unspecified
    except ValueError:
        return False


def raise_descriptor_limit(connections: int) -> str | None:
    """Let this process and its workers open enough files; says so where the system does not allow it."""
    needed = connections + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return None
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed >= needed:
        return None
    return (
        f"the system allows {allowed} open files, and server.worker_connections = {connections} may need "
        f"{needed}: raise the limit (ulimit -n) or lower the setting"
    )
