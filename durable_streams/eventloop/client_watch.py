"""Notices at once that a client has hung up while its response waits for something else.

What then happens to the wait is decided by the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import MSG_DONTWAIT, MSG_PEEK
from typing import Any, Final

from gevent import get_hub
from gevent.socket import socket as GeventSocket  # noqa: N812

READABLE: Final = 1


class ClientWatch:
    """Calls ``on_gone()`` in the hub, at most once, when the peer of ``sock`` closes or resets its connection.

    Nothing is consumed: a request that the client has sent ahead stays there to be read, but the end behind it can
    then no longer be seen. A TLS socket, or None, is not watched at all. ``close()`` must be called.
    """

    __slots__ = ("_on_gone", "_raw", "_watcher")

    def __init__(self, sock: Any, on_gone: Callable[[], object]) -> None:
        self._on_gone = on_gone
        self._watcher: Any = None
        # Exactly this type: on a TLS socket the bytes below say nothing about the end of the stream above.
        if type(sock) is not GeventSocket or sock.fileno() < 0:
            return
        self._raw = sock._sock
        self._watcher = get_hub().loop.io(self._raw.fileno(), READABLE)
        self._watcher.start(self._look)

    def close(self) -> None:
        """Stop watching. Twice is once."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
            watcher.close()

    def _look(self) -> None:
        # The event is level-triggered: unread bytes would call this again in every turn of the loop.
        self._watcher.stop()
        try:
            gone = self._raw.recv(1, MSG_PEEK | MSG_DONTWAIT) == b""
        except BlockingIOError:
            self._watcher.start(self._look)
            return
        except OSError:
            gone = True
        if gone:
            self._on_gone()
