"""The broadcaster of live SSE: every range is encoded once and written straight to every caught-up reader.

A reader that has nothing more to say for itself joins its stream; from then on its greenlet sleeps and the one
broadcaster writes to its socket, without ever blocking. A reader whose socket is full leaves, sends the rest in its
own greenlet, catches up by offset and joins again: nothing queues for it, and nobody waits for it. Only sockets whose
framing is known (plain HTTP/1.1, chunked) can be written to from outside; every other reader follows by itself.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event

from durable_streams.eventloop.deadline import deadline
from durable_streams.eventloop.turns import yield_to_loop
from durable_streams.live.events import EVENT_BYTES_MAX, event, next_data
from durable_streams.live.follower import Follower
from durable_streams.live.waiting import ClientGone, wait_for
from durable_streams.protocol import caching
from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change
from durable_streams.streams.store import StreamStore

SENDS_PER_TURN = 256
"""About 3 ms of sending; then everybody else gets a turn."""
BYTES_PER_SEND = 16 * 1024
"""So many more bytes in a send take as long as one more send."""

PAUSE_S_MAX = 0.02
STALLED_S_MAX = 60.0
"""A client that takes nothing for so long is given up."""

log = logging.getLogger("durable_streams.live")


class _Member:
    """A caught-up reader: its raw socket, its position, and what its socket did not take."""

    __slots__ = ("joined", "left", "position", "rest", "socket")

    def __init__(self, raw_socket: Any, position: int) -> None:
        self.socket = raw_socket
        self.position = position
        self.rest = b""
        self.joined = True
        self.left = Event()

    def send(self, frame: bytes, stop: int) -> None:
        """Write ``frame`` as far as the socket takes it; leave if it does not take all."""
        try:
            sent = self.socket.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The connection is broken; the reader's own greenlet finds out when it wakes.
            self.release()
            return
        self.position = stop
        if sent != len(frame):
            self.rest = frame[sent:]
            self.release()

    def release(self) -> None:
        self.joined = False
        self.left.set()


class Fanout:
    """All joined readers of one process, by stream."""

    def __init__(self, store: StreamStore) -> None:
        self._store = store
        self._members: dict[str, dict[_Member, None]] = {}
        self._changed: dict[str, None] = {}
        self._wake = Event()
        self._stopping = False
        self._broadcaster: gevent.Greenlet[[], None] | None = None

    def announce(self, change: Change) -> None:
        """A change is durable: tell the joined readers of that stream, or let them go when it has come to an end."""
        name = change.name
        members = self._members.get(name)
        if members is None:
            return
        after = change.after
        if after is None or change.is_new or after.deleted or after.closed:
            for member in list(members):
                member.release()
        else:
            self._changed[name] = None
            self._wake.set()

    def stop(self) -> None:
        """Let every joined reader go, for its greenlet to end the connection."""
        self._stopping = True
        for members in self._members.values():
            for member in list(members):
                member.release()

    def can_serve(self, client_socket: Any) -> bool:
        """Whether the broadcaster may write to it: only a plain socket's bytes go out as they are."""
        return type(client_socket) is socket.socket

    def follow(self, follower: Follower, client_socket: Any, seconds: float) -> bool:
        """Have the broadcaster serve a caught-up reader for at most ``seconds``; whether it was let go before.

        The follower's position is where the reader then is. Raises ClientGone, or OSError from its socket.
        """
        member = _Member(client_socket._sock, follower.position)
        members = self._join(follower.state.name, member)
        try:
            woken = wait_for(member.left, seconds, client_socket)
        finally:
            member.joined = False
            self._leave(follower.state.name, members, member)
        follower.position = member.position
        if member.rest:
            with deadline(STALLED_S_MAX, ClientGone):
                client_socket.sendall(member.rest)
        return woken

    @property
    def readers(self) -> int:
        """How many readers are joined now."""
        return sum(map(len, self._members.values()))

    def _join(self, name: str, member: _Member) -> dict[_Member, None]:
        if self._broadcaster is None:
            self._broadcaster = gevent.spawn(self._broadcast_for_ever)
        members = self._members.setdefault(name, {})
        members[member] = None
        if self._stopping:
            member.release()
        return members

    def _leave(self, name: str, members: dict[_Member, None], member: _Member) -> None:
        del members[member]
        if not members:
            del self._members[name]

    def _broadcast_for_ever(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._changed:
                name = next(iter(self._changed))
                del self._changed[name]
                began = monotonic()
                self._broadcast(name)
                # A stream that grew meanwhile, and is alone, gets time to grow more: its readers lose no more than
                # the round took, and one send carries many appends.
                grew_alone = len(self._changed) == 1 and name in self._changed
                if grew_alone:
                    gevent.sleep(min(monotonic() - began, PAUSE_S_MAX))
                else:
                    yield_to_loop()

    def _broadcast(self, name: str) -> None:
        members = list(self._members.get(name, ()))
        try:
            state = self._store.find(name)
            self._send_to_all(state, members)
        except Exception as error:
            # Each reader meets the error in its own greenlet; this one is everybody's, and must go on.
            level = logging.DEBUG if isinstance(error, ProtocolError) else logging.ERROR
            log.log(level, "stream %r cannot be broadcast", name, exc_info=error)
            for member in members:
                member.release()

    def _send_to_all(self, state: StreamState, members: list[_Member]) -> None:
        frames: dict[int, tuple[bytes, int]] = {}
        cursor = caching.next_cursor(self._store.clock(), None, 1)
        sends = 0
        for member in members:
            if sends >= SENDS_PER_TURN:
                sends = 0
                yield_to_loop()
            if member.joined and member.position not in frames:
                frames[member.position] = self._frame(state, member.position, cursor)
            # Only now: while the frame was being read, this reader may have left.
            if not member.joined:
                continue
            frame, stop = frames[member.position]
            if frame:
                member.send(frame, stop)
                sends += 1 + len(frame) // BYTES_PER_SEND
                if stop < state.tail:
                    self._changed[state.name] = None

    def _frame(self, state: StreamState, position: int, cursor: str) -> tuple[bytes, int]:
        """The next event as a chunk of the chunked coding, and the position after it."""
        data = next_data(self._store, state, position, EVENT_BYTES_MAX)
        if not data:
            return b"", position
        stop = position + len(data)
        payload = event(state, data, stop, cursor)
        return b"%x\r\n%b\r\n" % (len(payload), payload), stop
