"""A client's connection for code that waits for a stream: it is watched during the wait, and events are sent to it.

A server that knows its sockets and how it frames a response offers a ``LiveSocket`` in the environ under
``LIVE_SOCKET``. Under any other server a ``WatchedSocket`` at least notices that the client has gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from durable_streams.eventloop.client_watch import ClientWatch

LIVE_SOCKET: Final = "durable_streams.live_socket"
"""The key of the LiveSocket in the WSGI environ."""
SERVER_SOCKET: Final = "gunicorn.socket"
"""The key of the socket itself under gunicorn's workers, StreamWorker included."""


class Watchable(Protocol):
    """A connection whose end can be noticed while nothing is read from it."""

    def watch(self, on_gone: Callable[[], object]) -> ClientWatch:
        """Call ``on_gone()`` in the hub, at most once, as soon as the client hangs up; ``close()`` it afterwards."""


class LiveSocket(Watchable, Protocol):
    """The connection of a response that has begun, has no declared length, and is waiting for more to send."""

    def send(self, event: bytes) -> bytes:
        """Send ``event`` as far as the connection takes it at once; never waits. Returns what it did not take.

        What is returned goes to ``send_rest`` before anything else is sent. Raises OSError on a broken connection.
        """

    def send_rest(self, rest: bytes) -> None:
        """Send what ``send`` returned; waits for the client. Raises OSError when it takes nothing for too long."""

    def end_at(self, moment: float) -> None:
        """The time of this response is over at ``moment`` of the monotonic clock.

        A send that waits for the client then fails soon; the response itself ends at the end of its event.
        """


class WatchedSocket:
    """A socket that some server has handed out: it can be watched, where it is a plain one."""

    __slots__ = ("_sock",)

    def __init__(self, sock: Any) -> None:
        """``sock``: None where the server hands out none; then nothing is noticed."""
        self._sock = sock

    def watch(self, on_gone: Callable[[], object]) -> ClientWatch:
        return ClientWatch(self._sock, on_gone)
