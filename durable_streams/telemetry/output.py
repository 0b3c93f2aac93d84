"""Standard output that never makes the server wait: a terminal held by Ctrl-S, a collector that has stopped reading.

What the other side does not take at once is kept, up to BUFFERED_BYTES_MAX, and written by a thread as it takes it.
Lines beyond that are dropped and counted, and a line says how many once there is room again.
"""

from __future__ import annotations

import os
import select
import stat
import sys

# Bound before gevent patches them: this must be a native thread.
from _socket import MSG_DONTWAIT, socket
from _thread import RLock, start_new_thread
from collections import deque
from collections.abc import Callable
from functools import cache
from time import monotonic
from typing import IO, Final, Protocol

BUFFERED_BYTES_MAX: Final = 1024 * 1024
FLUSH_SECS_MAX: Final = 2.0
"""How long an ending process waits for a reader of its last lines."""
DROPPED: Final = "%d log lines were dropped: standard output was not read\n"

_poll: Final = select.poll


class Output(Protocol):
    """Where log lines go. ``write`` gets whole lines; ``drain`` waits until they are written, for a time."""

    def write(self, data: bytes) -> None: ...
    def drain(self) -> None: ...


class PlainOutput:
    """A file, or whatever else takes all that is written."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()

    def drain(self) -> None:
        """All is written."""


class PatientOutput:
    """Lines for a descriptor that may stop taking them. ``send(data)`` returns how much was taken, and never waits.

    ``send`` raises BlockingIOError when nothing is taken. Once it raises anything else, all lines are dropped.
    """

    def __init__(self, descriptor: int, send: Callable[[bytes], int]) -> None:
        self._descriptor = descriptor
        self._send = send
        self._lock = RLock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_draining = False
        self.dropped = 0
        """Lines, since the last line that told of them."""
        os.register_at_fork(after_in_child=self._forget)

    def write(self, data: bytes) -> None:
        """Never waits and raises nothing."""
        with self._lock:
            if not self._waiting:
                data = self._rest_of(data)
            if not data:
                return
            if self._waiting_bytes + len(data) > BUFFERED_BYTES_MAX:
                self.dropped += 1
                return
            self._keep(data)
            if not self._is_draining:
                self._is_draining = True
                start_new_thread(self._write_as_taken, ())

    def drain(self) -> None:
        """Wait for the reader, FLUSH_SECS_MAX at most."""
        deadline = monotonic() + FLUSH_SECS_MAX
        while self._waiting and monotonic() < deadline:
            self._await_room(FLUSH_SECS_MAX)
            with self._lock:
                self._write_waiting()

    def _keep(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)

    def _write_as_taken(self) -> None:
        while True:
            self._await_room(None)
            with self._lock:
                self._write_waiting()
                if not self._waiting:
                    self._is_draining = False
                    return

    def _await_room(self, seconds: float | None) -> None:
        poll = _poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll(None if seconds is None else seconds * 1000)

    def _write_waiting(self) -> None:
        while self._waiting:
            data = self._waiting.popleft()
            self._waiting_bytes -= len(data)
            rest = self._rest_of(data)
            if rest:
                self._waiting.appendleft(rest)
                self._waiting_bytes += len(rest)
                return
            if not self._waiting and self.dropped:
                self._keep((DROPPED % self.dropped).encode())
                self.dropped = 0

    def _rest_of(self, data: bytes) -> bytes:
        try:
            return data[self._send(data) :]
        except BlockingIOError:
            return data
        except OSError:
            # The reader is gone for good; there is nobody left to tell.
            return b""

    def _forget(self) -> None:
        """In a forked child: the parent writes what waits, and its thread is not here."""
        self._lock = RLock()
        self._waiting.clear()
        self._waiting_bytes = self.dropped = 0
        self._is_draining = False


@cache
def standard_output() -> Output:
    """Standard output, patient where it is a pipe, a socket or a terminal."""
    stream: IO[bytes] = sys.stdout.buffer
    try:
        descriptor = stream.fileno()
        send = _sender(descriptor)
    except (OSError, ValueError):
        return PlainOutput(stream)
    return PlainOutput(stream) if send is None else PatientOutput(descriptor, send)


def _sender(descriptor: int) -> Callable[[bytes], int] | None:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        connected = socket(fileno=os.dup(descriptor))
        return lambda data: connected.send(data, MSG_DONTWAIT)
    if not stat.S_ISFIFO(mode) and not os.isatty(descriptor):
        return None
    # Opened anew: to set the flag on the descriptor would set it for every process that shares it, a shell among them.
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
    own = os.open(f"/dev/fd/{descriptor}", flags)
    return lambda data: os.write(own, data)
