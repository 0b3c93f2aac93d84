"""Time limits on steps that wait, for modules that may not import gevent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent


@contextmanager
def deadline(seconds: float, error: Callable[[], Exception]) -> Iterator[None]:
    """Raise ``error()`` when the block has not ended after ``seconds``."""
    timeout = gevent.Timeout(seconds)
    timeout.start()
    try:
        yield
    except gevent.Timeout as expired:
        if expired is not timeout:
            raise
        raise error() from None
    finally:
        timeout.close()


@contextmanager
def silence_limit(sock: Any, seconds: float) -> Iterator[None]:
    """Raise TimeoutError when the block waits ``seconds`` for the next bytes of ``sock``, however long it takes in all.

    ``sock`` is a gevent socket, or None where the server shows none: then the whole block has ``seconds``.
    """
    if sock is None:
        with deadline(seconds, TimeoutError):
            yield
        return
    before = sock.gettimeout()
    sock.settimeout(seconds)
    try:
        yield
    finally:
        sock.settimeout(before)
