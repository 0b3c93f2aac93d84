"""What the worker writes to a client: whole responses that wait for it, and live events that do not.

A client that takes nothing for too long is dropped: the limit is on each wait for room in its socket, so a slow client
that takes something now and then is served to the end. The framing of live events stands here alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any, Final

from gevent.socket import socket

from durable_streams.eventloop.client_watch import ClientWatch
from durable_streams.eventloop.live_socket import LIVE_SOCKET
from durable_streams.eventloop.turns import TURN_BYTES, yield_to_loop
from durable_streams.worker.bodies import ClientDisconnected

WRITE_TIMEOUT_S: Final = 60.0
"""How long a client may take nothing of what is sent to it, where the configuration does not say."""
LAST_WAITS_S: Final = 1.0
"""The same for a response whose time is over: enough for a slow client to get the rest of its event."""
NO_END: Final = float("inf")

_last_event: bytes = b""
_last_frame: bytes = b""


class ClientSocket:
    """One client's socket, for writing. ``stall_s``: how long the client may take nothing, in seconds.

    Fulfils ``LiveSocket``: its events are chunks of the chunked transfer coding (RFC 9112 section 7.1).
    """

    __slots__ = ("_ends_at", "_since_yield", "_sock", "_stall_s")

    def __init__(self, sock: Any, stall_s: float) -> None:
        self._sock = sock
        self._stall_s = stall_s
        self._ends_at = NO_END
        self._since_yield = 0

    def send_all(self, data: bytes | memoryview) -> None:
        """Send all of ``data``, and yield to the loop after every TURN_BYTES.

        Raises TimeoutError when the client takes nothing for too long, and OSError when the connection is broken.
        """
        if len(data) > TURN_BYTES:
            view = memoryview(data)
            for start in range(0, len(view), TURN_BYTES):
                self.send_all(view[start : start + TURN_BYTES])
            return
        self._send(data)
        # A fast reader always has room for more, and would never make the loop wait.
        self._since_yield += len(data)
        if self._since_yield >= TURN_BYTES:
            self._since_yield = 0
            yield_to_loop()

    def send(self, event: bytes) -> bytes:
        """Send ``event`` as one chunk as far as the socket takes it at once; returns the bytes it did not take."""
        global _last_event, _last_frame
        # One event goes to many sockets; it is framed once.
        if event is not _last_event:
            _last_event, _last_frame = event, b"%x\r\n%b\r\n" % (len(event), event)
        frame = _last_frame
        try:
            sent = self._sock._sock.send(frame)
        except BlockingIOError:
            return frame
        return frame[sent:] if sent < len(frame) else b""

    def send_rest(self, rest: bytes) -> None:
        """Send what ``send`` returned; raises as ``send_all`` does."""
        self.send_all(rest)

    def end_at(self, moment: float) -> None:
        """From ``moment`` (of the monotonic clock) on, sends wait for the client no longer than LAST_WAITS_S."""
        self._ends_at = moment

    def watch(self, on_gone: Callable[[], object]) -> ClientWatch:
        """Call ``on_gone()`` in the hub, at most once, as soon as the client hangs up."""
        return ClientWatch(self._sock, on_gone)

    def _send(self, data: bytes | memoryview) -> None:
        # Without gevent's bookkeeping where the system takes all of it at once.
        try:
            sent = self._sock._sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._send_slowly(memoryview(data)[sent:])

    def _send_slowly(self, view: memoryview) -> None:
        sock = self._sock
        before = sock.timeout
        try:
            while view:
                # Each send waits at most once for room.
                sock.timeout = min(self._stall_s, max(self._ends_at - monotonic(), LAST_WAITS_S))
                view = view[sock.send(view) :]
        finally:
            sock.timeout = before


class SlowPathSocket(ClientSocket):
    """The socket that gunicorn's own response writes to: plain or with TLS, with the same limit on each wait."""

    __slots__ = ()

    def sendall(self, data: bytes) -> None:
        """gunicorn writes with this. Raises ClientDisconnected when the client takes nothing for too long."""
        try:
            self.send_all(data)
        except TimeoutError as exc:
            raise ClientDisconnected(str(exc)) from exc

    def _send(self, data: bytes | memoryview) -> None:
        # Below TLS lies another socket, which must not be written to.
        self._send_slowly(memoryview(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class LiveSocketOffer:
    """A WSGI application with a live socket in its environ, for requests that gunicorn's own parser has read.

    The socket is offered where its bytes go out as they are: on plain HTTP/1.1. The time that the client may take
    nothing holds for every response: exactly on the slow path of StreamWorker, and under gunicorn's own worker for each
    piece of the body.
    """

    def __init__(self, application: Any, stall_s: float) -> None:
        self._application = application
        self._stall_s = stall_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._application, name)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        sock, protocol = environ["gunicorn.socket"], environ["SERVER_PROTOCOL"]
        if isinstance(sock, SlowPathSocket):
            client: ClientSocket = sock
            environ["gunicorn.socket"] = sock._sock
        else:
            client = ClientSocket(sock, self._stall_s)
        if type(environ["gunicorn.socket"]) is socket and protocol == "HTTP/1.1":
            environ[LIVE_SOCKET] = client
        body: Iterable[bytes] = self._application(environ, start_response)
        if (
            client is sock
            or not protocol.startswith("HTTP/1")
            or isinstance(body, environ["wsgi.file_wrapper"])
        ):
            return body
        return _PatientBody(body, sock, self._stall_s)


class _PatientBody:
    """A response body, each piece of which the client must take in time; gunicorn closes it when all is sent."""

    def __init__(self, body: Iterable[bytes], sock: Any, stall_s: float) -> None:
        self._body = body
        self._sock = sock
        self._before = sock.timeout
        sock.timeout = stall_s

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        self._sock.timeout = self._before
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
