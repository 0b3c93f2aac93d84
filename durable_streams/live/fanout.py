"""The fan-out of live SSE: every range is encoded once and written straight to every caught-up reader.

A caught-up reader joins its stream. From then on its greenlet sleeps, and the stream's broadcaster writes to its
socket without ever blocking. A reader whose socket is full leaves, sends the rest in its own greenlet, catches up by
offset and joins again: nothing queues for it, and nobody waits for it. A broadcaster lives while its stream is
changing, so a stream that is slow to read holds up no other. How an event is framed on a connection is decided by its
``LiveSocket``; a reader whose server offers none follows by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from time import monotonic
from typing import Final

import gevent
from gevent.event import Event

from durable_streams.eventloop.live_socket import LiveSocket
from durable_streams.eventloop.turns import yield_to_loop
from durable_streams.live.events import EVENT_BYTES_MAX, NotText, next_part, pieces
from durable_streams.live.follower import Follower
from durable_streams.live.waiting import wait_for
from durable_streams.protocol import caching
from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.state import StreamState
from durable_streams.streams.store import StreamStore
from durable_streams.streams.wakes import Interest

SENDS_PER_TURN = 256
"""About 3 ms of sending; then every other greenlet gets its turn."""
BYTES_PER_SEND = 16 * 1024
"""Cost model: 16 KiB cost about as much as one extra ``send``."""

PAUSE_S_MAX = 0.02

log = logging.getLogger("durable_streams.live")


class _Member:
    """A caught-up reader: its connection, its stream's uid, its position, and what its connection did not take."""

    __slots__ = ("as_base64", "client", "joined", "left", "position", "rest", "sent_bytes", "uid")

    def __init__(self, client: LiveSocket, follower: Follower) -> None:
        self.client = client
        self.uid = follower.state.config.uid
        self.position = follower.position
        self.as_base64 = follower.as_base64
        self.rest = b""
        self.sent_bytes = 0
        self.joined = True
        self.left = Event()

    def send(self, event: bytes, stop: int) -> None:
        """Send ``event`` as far as the connection takes it; leave if it does not take all."""
        try:
            rest = self.client.send(event)
        except OSError:
            # The connection is broken; the reader's own greenlet finds out when it wakes.
            self.release()
            return
        self.position = stop
        self.sent_bytes += len(event)
        if rest:
            self.rest = rest
            self.release()

    def release(self) -> None:
        self.joined = False
        self.left.set()


class Fanout:
    """All joined readers of one process, by stream."""

    def __init__(self, store: StreamStore) -> None:
        self._store = store
        self._members: dict[str, dict[_Member, None]] = {}
        self.interest: Final = Interest(self._members)
        self._changed: dict[str, bool] = {}
        """Streams with a running broadcaster: whether there is something new since its round began."""
        self._stopping = False

    def announce(self, name: str) -> None:
        """The stream ``name`` may have changed: bring its joined readers up to date, or let them go at its end."""
        if name not in self._members:
            return
        if name not in self._changed:
            gevent.spawn(self._broadcast_while_it_changes, name)
        self._changed[name] = True

    def announce_all(self) -> None:
        """Any stream may have changed."""
        for name in self._members:
            self.announce(name)

    def watched(self) -> Iterable[str]:
        """The names of the streams that have joined readers."""
        return self._members.keys()

    def stop(self) -> None:
        """Let every joined reader go, for its greenlet to end the connection."""
        self._stopping = True
        for members in self._members.values():
            _release(members)

    def follow(self, follower: Follower, client: LiveSocket, seconds: float) -> bool:
        """Have the broadcaster serve a caught-up reader for at most ``seconds``; whether it was let go before.

        The follower's position is where the reader then is. Raises ClientGone, or OSError from its connection.
        """
        state = follower.state
        member = _Member(client, follower)
        members = self._join(state.name, member)
        try:
            woken = wait_for(member.left, seconds, client)
        finally:
            member.joined = False
            self._leave(state.name, members, member)
        follower.position = member.position
        follower.broadcast_bytes += member.sent_bytes
        if member.rest:
            client.send_rest(member.rest)
        return woken

    @property
    def readers(self) -> int:
        """How many readers are joined now."""
        return sum(map(len, self._members.values()))

    def _join(self, name: str, member: _Member) -> dict[_Member, None]:
        members = self._members.setdefault(name, {})
        members[member] = None
        if self._stopping:
            member.release()
        return members

    def _leave(self, name: str, members: dict[_Member, None], member: _Member) -> None:
        del members[member]
        if not members:
            del self._members[name]

    def _broadcast_while_it_changes(self, name: str) -> None:
        changed = self._changed
        while changed[name]:
            changed[name] = False
            began = monotonic()
            self._broadcast(name)
            # A stream that grew meanwhile, and is alone, gets time to grow more: its readers lose no more than the
            # round took, and one send carries many appends.
            if changed[name] and len(changed) == 1:
                gevent.sleep(min(monotonic() - began, PAUSE_S_MAX))
            else:
                yield_to_loop()
        del changed[name]

    def _broadcast(self, name: str) -> None:
        members = list(self._members.get(name, ()))
        try:
            state = self._store.find(name)
            _release(members if state.closed else [it for it in members if it.uid != state.config.uid])
            self._send_to_all(state, members)
        except Exception as error:
            # Each reader meets the error in its own greenlet.
            level = logging.DEBUG if isinstance(error, ProtocolError) else logging.ERROR
            log.log(level, "stream %r cannot be broadcast", name, exc_info=error)
            _release(members)

    def _send_to_all(self, state: StreamState, members: list[_Member]) -> None:
        events: dict[tuple[int, bool], tuple[bytes, int] | None] = {}
        cursor = caching.next_cursor(self._store.clock(), None, 1)
        sends = 0
        for member in members:
            if sends >= SENDS_PER_TURN:
                sends = 0
                yield_to_loop()
            place = member.position, member.as_base64
            if member.joined and place not in events:
                events[place] = self._event(state, place, cursor)
            # Only now: while the event was being read, this reader may have left.
            if not member.joined:
                continue
            found = events[place]
            if found is None:
                # Its greenlet ends the connection before what cannot be sent on it.
                member.release()
                continue
            payload, stop = found
            if payload:
                member.send(payload, stop)
                sends += 1 + len(payload) // BYTES_PER_SEND
                if stop < state.tail:
                    self._changed[state.name] = True

    def _event(self, state: StreamState, place: tuple[int, bool], cursor: str) -> tuple[bytes, int] | None:
        """The next event of readers at ``place``, and the position after it; empty when there is none yet.

        ``place``: the position, and whether they get base64. None: what comes next cannot be sent to them.
        """
        position, as_base64 = place
        try:
            part = next_part(self._store, state, position, EVENT_BYTES_MAX, as_base64=as_base64)
        except NotText:
            return None
        if part.stop == position:
            return b"", position
        return b"".join(pieces(part, cursor)), part.stop


def _release(members: Iterable[_Member]) -> None:
    for member in list(members):
        member.release()
