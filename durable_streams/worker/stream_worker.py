"""StreamWorker: gunicorn's gevent worker with a fast path for ordinary requests, and a stop that breaks nothing.

It decides which connections may take the fast path, how long they may be idle, and the order of a stop.
"""

from __future__ import annotations

import os
import signal
from enum import Enum, auto
from functools import partial
from time import monotonic
from typing import Any, Final

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gevent.socket import wait_read
from gunicorn.glogging import Logger
from gunicorn.http.errors import InvalidHeader
from gunicorn.http.message import _ip_in_allow_list
from gunicorn.http.wsgi import base_environ
from gunicorn.sock import ssl_context
from gunicorn.workers.ggevent import GeventWorker

from durable_streams.eventloop import stopping
from durable_streams.eventloop.connections import count_by
from durable_streams.worker.admission import POOL_SPARE, Admission
from durable_streams.worker.bodies import BodyTimeout, ClientDisconnected, TimedBody
from durable_streams.worker.client_socket import WRITE_TIMEOUT_S, LiveSocketOffer, SlowPathSocket
from durable_streams.worker.connections import Connection
from durable_streams.worker.request_heads import (
    RequestHeads,
    UnixRequestHeads,
    is_host,
    served_under_a_prefix,
)
from durable_streams.worker.responses import OwnHeaders
from durable_streams.worker.strict_requests import use_strict_requests

FIRST_REQUEST_S: Final = 10.0
"""How long a head, or a TLS handshake, may take where `keepalive` is 0."""
HEARTBEAT_S: Final = 1.0
LAST_REQUESTS_S: Final = 0.25
"""In a stop: how long requests are still read from idle connections, so that those on their way are answered."""
STOP_ROUND_S: Final = 0.02
QUICK_STOP_S: Final = 0.3
HOOKS: Final = ("pre_request", "post_request")


class Peer(Enum):
    """Who is at the other end of a connection, as far as the reading of its requests depends on it."""

    LOCAL = auto()
    """On a Unix socket, which has no address."""
    TRUSTED = auto()
    """A proxy that is believed the scheme it names."""
    UNTRUSTED = auto()


class StreamWorker(GeventWorker):  # type: ignore[misc]
    """See gunicorn's documentation for what the methods that it calls mean."""

    alive: bool
    wsgi: Any
    write_timeout_s = WRITE_TIMEOUT_S
    """How long a client may take nothing of a response; set before ``run``."""
    admission: Admission | None = None
    """Set before ``run`` too, where a client has a limit of its own."""
    _grace_s: float | None = None

    def init_process(self) -> None:
        # Until gunicorn sets its handlers the arbiter's are in force, and a stop in that time would be forgotten.
        signal.signal(signal.SIGTERM, self.handle_exit)
        # The strict parser decides what the C parser leaves open.
        self.cfg.set("http_parser", "python")
        use_strict_requests()
        super().init_process()

    def prepare(self) -> None:
        """Prepare to serve, after the application has been loaded."""
        self.own_headers = OwnHeaders()
        self._heads: dict[Peer, RequestHeads] = {
            Peer.LOCAL: UnixRequestHeads(self.cfg),
            Peer.TRUSTED: RequestHeads(self.cfg, True),
            Peer.UNTRUSTED: RequestHeads(self.cfg, False),
        }
        self.base_environ = {
            **base_environ(self.cfg),
            "wsgi.multithread": True,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SCRIPT_NAME": "",
        }
        self.keeps_alive = self.cfg.keepalive > 0
        self._connections: dict[Any, Connection] = {}
        self.admission = self.admission or Admission(self.worker_connections)
        count_by(lambda: len(self._connections))
        self._ssl_context: Any = ssl_context(self.cfg) if self.cfg.is_ssl else None
        self._serves_own_loop = self._ssl_context is None and is_plain_http(self.cfg)
        # gunicorn's own code calls `wsgi`, the fast path the application itself.
        self.application = self.wsgi
        self.wsgi = LiveSocketOffer(self.application, self.write_timeout_s)
        obstacle = self._obstacle()
        self.has_fast_path = obstacle is None
        if obstacle is not None:
            self.log.warning(
                "%s: every request takes the slow path, which costs several times as much",
                obstacle,
            )

    def run(self) -> None:
        """Serve until told to stop, then stop."""
        self.prepare()
        servers = [self._listen(listener) for listener in self.sockets]
        while self.alive:
            self.notify()
            self.end_idle(monotonic() - self._idle_max_s())
            self._rest(HEARTBEAT_S)
        self._stop(servers)

    def _obstacle(self) -> str | None:
        """Why requests cannot take the fast path, which has neither access logs nor hooks."""
        for name in HOOKS:
            setting = self.cfg.settings[name]
            if setting.get() is not setting.default:
                return f"the hook {name} is set"
        if self.log.access_log_enabled or type(self.log).access is not Logger.access:
            return "requests are logged by gunicorn"
        if served_under_a_prefix():
            return "SCRIPT_NAME is set"
        return None

    def _listen(self, listener: Any) -> StreamServer:
        listener.setblocking(True)
        handle = partial(self.handle, ListenerName(listener.getsockname()))
        server = StreamServer(listener, handle=handle, spawn=Pool(self.worker_connections + POOL_SPARE))
        if self.cfg.workers > 1:
            server.max_accept = 1
        server.start()
        return server

    def _rest(self, seconds: float) -> None:
        """Until a signal comes, or the time is over."""
        with gevent.Timeout(seconds, False):
            wait_read(self.PIPE[0])
            os.read(self.PIPE[0], 4096)

    # Connections.

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        client.setblocking(True)
        addr = os.fsdecode(addr) if isinstance(addr, bytes) else addr
        connection = Connection(self, client, addr, listener.getsockname())
        me = gevent.getcurrent()
        self._connections[me] = connection
        assert self.admission is not None, "prepare() has made it"
        beyond = self.admission.enter(addr)
        try:
            if beyond is not None:
                with self.admission.answering(connection.end):
                    self._answer_beyond(connection, beyond)
                return
            if self._ssl_context is not None and not self._shake_hands(connection):
                return
            if self._serves_own_loop:
                connection.serve()
            else:
                # Without keep-alive gunicorn waits for the request without a timer.
                connection.idle_since = 0.0 if self.keeps_alive else monotonic()
                super().handle(listener, connection.sock, addr)
        except OSError as exc:
            self.log.debug("the connection has broken: %s", exc)
        finally:
            self.admission.leave(addr)
            del self._connections[me]
            connection.sock.close()

    def _answer_beyond(self, connection: Connection, limit: str) -> None:
        if self._ssl_context is None or self._shake_hands(connection):
            connection.answer_beyond(limit)

    def _shake_hands(self, connection: Connection) -> bool:
        """Put TLS over the connection; False when the client does not get there in time."""
        connection.sock = self._ssl_context.wrap_socket(
            connection.sock,
            server_side=True,
            suppress_ragged_eofs=self.cfg.suppress_ragged_eofs,
            do_handshake_on_connect=False,
        )
        with self.timeout_ctx():
            connection.sock.do_handshake()
            return True
        return False

    def heads_from(self, addr: Any) -> RequestHeads:
        """The reader for requests of a client; the scheme that a proxy names counts if gunicorn trusts it."""
        cfg = self.cfg
        if not isinstance(addr, tuple):
            return self._heads[Peer.LOCAL]
        is_trusted = _ip_in_allow_list(addr[0], cfg.forwarded_allow_ips, cfg.forwarded_allow_networks())
        return self._heads[Peer.TRUSTED if is_trusted else Peer.UNTRUSTED]

    def timeout_ctx(self) -> Any:
        """Entered by gunicorn exactly while a connection waits for a request."""
        return IdleTimer(self._connections[gevent.getcurrent()], self._idle_max_s())

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """A request that gunicorn's parser has read: guard what gunicorn leaves unguarded, then call its code."""
        self._connections[gevent.getcurrent()].idle_since = 0.0
        refuse_wrong_host(req)
        body = req.body = TimedBody(req, sock)
        wants_close = req.should_close
        req.should_close = lambda: body.has_unread_rest or wants_close()
        try:
            client = SlowPathSocket(sock, self.write_timeout_s)
            return super().handle_request(listener_name, req, client, addr)
        except (BodyTimeout, ClientDisconnected) as exc:
            self.log.debug("Ignored an incomplete request: %s", exc)
            raise StopIteration from exc
        finally:
            body.leave()
            if self._ssl_context is not None and body.has_unread_rest:
                # gunicorn closes at once, and the reset would take the response with it.
                self._connections[gevent.getcurrent()].close_gently(more_may_come=True)

    def count_request(self) -> None:
        """gunicorn's `max_requests`."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False

    def _idle_max_s(self) -> float:
        return float(self.cfg.keepalive or FIRST_REQUEST_S)

    def end_idle(self, since: float) -> None:
        """End what has been idle from before ``since``."""
        for connection in list(self._connections.values()):
            if 0.0 < connection.idle_since < since:
                connection.end_if_idle()

    # The stop.

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGQUIT and SIGINT: as SIGTERM, without waiting for long requests."""
        self._grace_s = QUICK_STOP_S
        self.alive = False
        gevent.spawn(self.cfg.worker_int, self)

    def _grace(self) -> float:
        """In seconds. A second signal may shorten it."""
        return float(self.cfg.graceful_timeout) if self._grace_s is None else self._grace_s

    def _stop(self, servers: list[StreamServer]) -> None:
        began = monotonic()
        pools = [server.pool for server in servers]
        for server in servers:
            drain_backlog(server)
        stopping.drain()
        while any(pools) and monotonic() - began < self._grace():
            self.notify()
            now = monotonic()
            if now - began >= LAST_REQUESTS_S:
                self.end_idle(now)
            self._rest(STOP_ROUND_S)
        if any(pools):
            self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
            for pool in pools:
                pool.kill(timeout=1)
        stopping.finish()


class ListenerName:
    """What gunicorn asks of a listener, also after that is closed."""

    def __init__(self, name: Any) -> None:
        self._name = name

    def getsockname(self) -> Any:
        return self._name


class IdleTimer(gevent.Timeout):  # type: ignore[misc]
    """gunicorn's keep-alive timer, which silently ends its block, and marks the connection as idle meanwhile."""

    def __init__(self, connection: Connection, seconds: float) -> None:
        super().__init__(seconds, False)
        self._connection = connection

    def __enter__(self) -> Any:
        self._connection.idle_since = monotonic()
        return super().__enter__()

    def __exit__(self, *exc_info: Any) -> Any:
        self._connection.idle_since = 0.0
        return super().__exit__(*exc_info)


def is_plain_http(cfg: Any) -> bool:
    """Whether nothing but HTTP/1 can come first on a connection."""
    return (
        getattr(cfg, "protocol", "http") == "http"
        and cfg.proxy_protocol == "off"
        and cfg.http2_cleartext == "off"
    )


def refuse_wrong_host(request: Any) -> None:
    """RFC 9112 section 3.2, of which gunicorn checks only that there are not two."""
    host = next((value for name, value in request.headers if name == "HOST"), None)
    if host is None and request.version < (1, 1):
        return
    if host is None or not is_host(host):
        raise InvalidHeader("HOST", req=request)


def drain_backlog(server: StreamServer) -> None:
    """Close the listener after serving the connections that the system has accepted: they would be reset."""
    server.stop_accepting()
    while not server.full():
        accepted = server.do_read()
        if accepted is None:
            break
        server.do_handle(*accepted)
    server.close()
