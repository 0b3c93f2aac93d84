"""One connection: its requests one after the other, on the fast path where it takes them, or through gunicorn.

How long a connection may be idle is decided by the worker, which ends idle ones.
"""

from __future__ import annotations

import select
import socket
from io import BufferedReader, BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import gevent
from gunicorn import util
from gunicorn.http import get_parser
from gunicorn.http.errors import NoMoreData

from durable_streams.eventloop.live_socket import LIVE_SOCKET
from durable_streams.eventloop.turns import CutShort, yield_to_loop
from durable_streams.worker.admission import PROBES
from durable_streams.worker.bodies import (
    BODY_BUFFER_BYTES,
    CONTINUE,
    UNREAD_BYTES_MAX,
    BodyTimeout,
    ClientDisconnected,
    RequestBody,
)
from durable_streams.worker.client_socket import NO_END, ClientSocket, SlowPathSocket
from durable_streams.worker.request_heads import FastRequest
from durable_streams.worker.responses import FastResponse
from durable_streams.worker.strict_requests import StrictRequest

if TYPE_CHECKING:
    from durable_streams.worker.stream_worker import StreamWorker

RECEIVE_BYTES: Final = 64 * 1024
THROW_AWAY_S: Final = 2.0
"""How long the unread rest of a body may take to come, when the connection could be kept."""
LINGER_S: Final = 2.0
LINGER_STOPPING_S: Final = 0.2
"""How long a closing connection is still read from: a reset would take the last response with it."""
LINGER_BYTES_MAX: Final = 256 * 1024 * 1024
DISCARD_BYTES: Final = 1024 * 1024

_scratch: Final = bytearray(DISCARD_BYTES)


class Connection:
    """A client's connection. ``idle_since`` (of the monotonic clock) is 0.0 while it is served."""

    __slots__ = ("_addr", "_client", "_environ", "_hub", "_listener_name", "_worker", "idle_since", "sock")

    def __init__(self, worker: StreamWorker, sock: Any, addr: Any, listener_name: Any) -> None:
        self._worker = worker
        self._hub = gevent.get_hub()
        self.sock = sock
        self._addr = addr
        self._listener_name = listener_name
        self._client = ClientSocket(sock, worker.write_timeout_s)
        self._environ: dict[str, Any] = {}
        self.idle_since = 0.0

    def serve(self) -> None:
        """Serve requests until either side closes."""
        self._environ = self._connection_environ()
        read_head = self._worker.heads_from(self._addr).read
        data = b""
        while True:
            if not data:
                data = self._next_bytes()
                if not data:
                    return
            else:
                # Sent ahead: every other connection has waited at least as long.
                yield_to_loop()
            request = read_head(data, self._environ) if self._worker.has_fast_path else None
            rest = self._respond_by_gunicorn(data) if request is None else self._respond(request, data)
            if rest is None:
                return
            data = rest

    def answer_beyond(self, limit: str) -> None:
        """Answer a probe, or say that ``limit`` is reached, and end."""
        environ = self._connection_environ()
        data = self.sock.recv(RECEIVE_BYTES)
        request = self._worker.heads_from(self._addr).read(data, environ)
        if request is not None and request.environ["PATH_INFO"] in PROBES and not request.body_bytes:
            request.keep_alive = False
            self._client = SlowPathSocket(self.sock, self._worker.write_timeout_s)
            self._respond(request, data)
        elif data:
            util.write_error(self.sock, 503, "Service Unavailable", f"{limit} is reached")
            self.close_gently(more_may_come=True)

    def end_if_idle(self) -> None:
        """End a connection from which nothing waits. Its greenlet sees the end as if the client had made it."""
        if self.idle_since and not is_readable(self.sock):
            self.end()

    def end(self) -> None:
        """End the connection. Its greenlet sees that as if the client had made it."""
        end(self.sock)

    def _connection_environ(self) -> dict[str, Any]:
        environ = {
            **self._worker.base_environ,
            "gunicorn.socket": self.sock,
            LIVE_SOCKET: self._client,
            "wsgi.url_scheme": "http",
        }
        if not isinstance(self._addr, tuple):
            # A Unix-domain socket: its peer has no address, and the name of the server is that of the request.
            return {**environ, "REMOTE_ADDR": self._addr}
        return {
            **environ,
            "REMOTE_ADDR": self._addr[0],
            "REMOTE_PORT": str(self._addr[1]),
            "SERVER_NAME": self._listener_name[0],
            "SERVER_PORT": str(self._listener_name[1]),
        }

    def _next_bytes(self) -> bytes:
        """Always through the hub: a client that is quick with its next request must not keep others waiting."""
        sock = self.sock
        self.idle_since = monotonic()
        while True:
            self._hub.wait(sock._read_event)
            try:
                data: bytes = sock._sock.recv(RECEIVE_BYTES)
                break
            except BlockingIOError:
                continue
            except OSError:
                data = b""
                break
        self.idle_since = 0.0
        return data

    def _respond(self, request: FastRequest, data: bytes) -> bytes | None:
        """What follows the request in ``data`` or behind it; None when the connection ends here."""
        worker = self._worker
        worker.count_request()
        environ = request.environ
        is_head = environ["REQUEST_METHOD"] == "HEAD"
        keep_alive = request.keep_alive and worker.keeps_alive
        response = FastResponse(worker, self._client, is_head, keep_alive)
        end = request.body_start + request.body_bytes
        body = None
        if not request.body_bytes:
            environ["wsgi.input"] = BytesIO()
        elif end <= len(data):
            environ["wsgi.input"] = BytesIO(data[request.body_start : end])
        else:
            body = self._body(request, data[request.body_start :], response)
            environ["wsgi.input"] = BufferedReader(body, BODY_BUFFER_BYTES)
        if not self._run(environ, response):
            return None
        if not response.keep_alive or not (body is None or body.throw_away(THROW_AWAY_S)):
            self.close_gently(more_may_come=body is not None and body.unread > 0)
            return None
        if body is not None:
            body.leave()
        self._client.end_at(NO_END)
        return data[end:]

    def _body(self, request: FastRequest, begun: bytes, response: FastResponse) -> RequestBody:
        def send_continue() -> None:
            if not response.has_begun:
                self.sock.sendall(CONTINUE)

        before_read = send_continue if request.expects_continue else None
        body = RequestBody(self.sock, begun, request.body_bytes, before_read)
        response.depends_on(body)
        return body

    def _run(self, environ: dict[str, Any], response: FastResponse) -> bool:
        """Whether the application has given a whole response, and the client has taken it."""
        try:
            iterable = self._worker.application(environ, response.start_response)
            try:
                response.send(iterable)
            finally:
                close = getattr(iterable, "close", None)
                if close is not None:
                    close()
        except ClientDisconnected as exc:
            self._worker.log.debug("the client has gone: %s", exc)
            return False
        except CutShort as exc:
            self._worker.log.debug("the response ends early: %s", exc)
            return False
        except BodyTimeout:
            self._fail(response, 408, "Request Timeout")
            return False
        except (Exception, SystemExit, gevent.Timeout):
            self._worker.log.exception("Error handling request %s", environ["RAW_URI"])
            self._fail(response, 500, "Internal Server Error")
            return False
        return True

    def _fail(self, response: FastResponse, status: int, reason: str) -> None:
        """Send an error if nothing has been sent; otherwise the response stays visibly incomplete."""
        if response.has_begun:
            return
        try:
            util.write_error(self.sock, status, reason, "")
        except OSError:
            return
        self.close_gently(more_may_come=True)

    def _respond_by_gunicorn(self, data: bytes) -> bytes | None:
        """One request on the slow path, from the bytes that have come."""
        worker = self._worker
        parser = get_parser(worker.cfg, self.sock, self._addr)
        parser.mesg_class = StrictRequest
        parser.unreader.unread(data)
        request = None
        try:
            with worker.timeout_ctx():
                request = next(parser)
            if request is None:
                return None
            worker.handle_request(self._listener_name, request, self.sock, self._addr)
            if not request.should_close() and parser.finish_body(
                monotonic() + THROW_AWAY_S, UNREAD_BYTES_MAX + 1
            ):
                rest: bytes = parser.unreader.take_buffered()
                return rest
        except StopIteration:
            if request is None:
                return None
        except (NoMoreData, OSError) as exc:
            worker.log.debug("the client has gone: %s", exc)
            return None
        except Exception as exc:
            worker.handle_error(request, self.sock, self._addr, exc)
            self.close_gently(more_may_come=True)
            return None
        self.close_gently(more_may_come=request is not None and request.body.has_unread_rest)
        return None

    def close_gently(self, more_may_come: bool) -> None:
        """Close so that the last response arrives, also at a client that is still sending."""
        if more_may_come or is_readable(self.sock):
            linger(self.sock, LINGER_S if self._worker.alive else LINGER_STOPPING_S)


def end(sock: Any) -> None:
    """Shut both directions, whatever waits for either."""
    try:
        sock._sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The client was quicker.
        return


def is_readable(sock: Any) -> bool:
    """Whether bytes, or the end, wait to be read."""
    poll = select.poll()
    poll.register(sock._sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def linger(sock: Any, seconds: float) -> None:
    """Close for writing, and discard what still comes: a reset would take the last response with it.

    The system drops the bytes without copying them, so it costs next to nothing however many they are.
    """
    try:
        sock.shutdown(socket.SHUT_WR)
        with gevent.Timeout(seconds, False):
            discarded = 0
            while discarded < LINGER_BYTES_MAX:
                size = sock.recv_into(_scratch, DISCARD_BYTES, socket.MSG_TRUNC)
                if not size:
                    return
                discarded += size
                sock._wait(sock._read_event)
    except OSError:
        # Gone, which is what this waits for.
        return
