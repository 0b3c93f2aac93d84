"""Long-poll and SSE responses (sections 5.7 and 5.8): deadline, heartbeat, client gone, end of the server.

The reader holds an offset and asks for everything since; what it waits for is a wake, never data.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from durable_streams.access.grants import LIVE_ACCESS, UNLIMITED, LiveAccess
from durable_streams.eventloop.live_socket import (
    LIVE_SOCKET,
    SERVER_SOCKET,
    LiveSocket,
    Watchable,
    WatchedSocket,
)
from durable_streams.live.events import EVENT_BYTES_MAX, NotText, next_part
from durable_streams.live.fanout import Fanout
from durable_streams.live.follower import Follower
from durable_streams.live.hub import Hub
from durable_streams.live.waiting import ClientGone, wait_for
from durable_streams.protocol import sse
from durable_streams.protocol.content import check_position
from durable_streams.protocol.errors import NotFound, ProtocolError, StreamGone, StreamNotFound
from durable_streams.protocol.state import StreamState
from durable_streams.streams.store import StreamStore
from durable_streams.web.exchange import Exchange, LiveEnd
from durable_streams.web.rendering import SANDBOX
from durable_streams.web.response import Environ, Response

if TYPE_CHECKING:
    from gevent.event import Event

RECONNECT_SPREAD = 0.1
"""Jitter (+-10 %) so that clients do not reconnect together."""
RETRY_MS = (100, 900)
"""How soon an ``EventSource`` is to come back when the server has ended its connection; by itself it waits for 3 s."""

log = logging.getLogger("durable_streams.live")


@dataclass(frozen=True, slots=True)
class LiveTimes:
    """Seconds; ``reconnect_s`` 0 means that event streams are not ended."""

    long_poll_s: float
    reconnect_s: float
    heartbeat_s: float


class LiveReads:
    """Responses that wait for a stream to grow."""

    def __init__(self, store: StreamStore, hub: Hub, fanout: Fanout | None, times: LiveTimes) -> None:
        """``fanout``: None where something between this and the socket may change what is sent."""
        self._store = store
        self._hub = hub
        self._fanout = fanout
        self._times = times

    def wait(self, exchange: Exchange, state: StreamState, position: int) -> StreamState:
        """The stream once it goes beyond ``position`` or is closed, or the time is up; sets ``exchange.end``.

        When the reader's access has ended, the stream as it was before. Raises StreamNotFound or StreamGone as soon
        as it is deleted.
        """
        if state.closed:
            exchange.end = LiveEnd.CLOSED
            return state
        access = _access(exchange)
        until = min(monotonic() + self._times.long_poll_s, access.until)
        client = _client(exchange.environ)
        with self._attached(state), self._hub.watch(state.name, "long-poll") as watch:
            while True:
                event = watch.event()
                if not access.is_open:
                    # The state of before: what has come since is not for this reader.
                    exchange.end = LiveEnd.ACCESS
                    return state
                state = self._same(state)
                left = until - monotonic()
                exchange.end = self._end_of_wait(state, position, left)
                if exchange.end is not None:
                    return state
                try:
                    wait_for(event, min(left, access.look_every(self._times.heartbeat_s)), client)
                except ClientGone:
                    exchange.end = LiveEnd.CLIENT_GONE
                    return state

    def _end_of_wait(self, state: StreamState, position: int, seconds_left: float) -> LiveEnd | None:
        if state.tail > position:
            return LiveEnd.DATA
        if state.closed:
            return LiveEnd.CLOSED
        if self._hub.stopping:
            return LiveEnd.STOPPING
        return LiveEnd.TIMEOUT if seconds_left <= 0 else None

    def event_stream(
        self, exchange: Exchange, state: StreamState, position: int, *, shared: bool
    ) -> Response:
        """A text/event-stream response from ``position`` on; raises InvalidOffset for a wrong one.

        ``shared``: its events go out as they are, so the broadcaster may write them.
        """
        # A wrong position is refused here, while a response with another status is still possible.
        as_base64 = self._needs_base64(exchange, state, position)
        headers = [
            ("Content-Type", sse.CONTENT_TYPE),
            SANDBOX,
            ("Cache-Control", "no-cache"),
            ("X-Accel-Buffering", "no"),
        ]
        if as_base64:
            headers.append(("Stream-SSE-Data-Encoding", "base64"))
        follower = Follower(self._store, state, position, exchange.read.cursor, as_base64=as_base64)
        fanout = self._fanout if shared else None
        return Response(200, headers, self._events(exchange, follower, fanout))

    def _needs_base64(self, exchange: Exchange, state: StreamState, position: int) -> bool:
        """Whether text events could carry nothing of what lies before the reader."""
        check_position(position, state.tail)
        is_binary = sse.is_base64(state.config.content_type)
        try:
            part = next_part(self._store, state, position, EVENT_BYTES_MAX, as_base64=is_binary)
        except NotText:
            return True
        # An EventSource cannot decode base64: for the other half of a character it waits.
        is_event_source = "HTTP_LAST_EVENT_ID" in exchange.environ
        return is_binary or (part.stop == position < state.tail and not is_event_source)

    def _events(self, exchange: Exchange, follower: Follower, fanout: Fanout | None) -> Iterator[bytes]:
        """Until the stream or the server ends, the client goes, or the connection has lasted long enough."""
        state = follower.state
        with self._attached(state), self._hub.watch(state.name, "sse") as watch:
            try:
                yield from self._follow(exchange, follower, watch.event, fanout)
            except NotText:
                # The client comes back, and gets the rest in base64.
                exchange.end = LiveEnd.NOT_TEXT
            except (ClientGone, OSError):
                exchange.end = LiveEnd.CLIENT_GONE
            except (NotFound, StreamGone):
                exchange.end = LiveEnd.DELETED
            except ProtocolError as error:
                exchange.end = LiveEnd.FAILED
                log.error("the event stream of %r has ended: %s", state.name, getattr(error, "cause", error))
            finally:
                exchange.sent_bytes += follower.broadcast_bytes

    def _follow(
        self, exchange: Exchange, follower: Follower, next_wake: Callable[[], Event], fanout: Fanout | None
    ) -> Iterator[bytes]:
        live_socket: LiveSocket | None = exchange.environ.get(LIVE_SOCKET)
        client = live_socket or _client(exchange.environ)
        access = _access(exchange)
        until = min(self._connection_end(), access.until)
        if live_socket is not None:
            # A client that has stopped reading is held no longer than one that reads.
            live_socket.end_at(until)
        while True:
            wake = next_wake()
            follower.state = self._same(follower.state)
            while pieces := follower.next_event():
                yield from pieces
                if self._hub.stopping or monotonic() >= until:
                    # Far behind, it would go on for long; it resumes from the offset of this event.
                    break
            left = until - monotonic()
            exchange.end = self._end_of_events(access, follower, left)
            if exchange.end is not None:
                if exchange.end is not LiveEnd.CLOSED:
                    yield sse.retry_event(random.randint(*RETRY_MS))
                return
            seconds = min(left, self._times.heartbeat_s)
            if fanout is None or live_socket is None or wake.is_set() or follower.is_ahead:
                woken = wait_for(wake, seconds, client)
            else:
                woken = fanout.follow(follower, live_socket, seconds)
            if not woken and monotonic() < until:
                yield sse.HEARTBEAT

    def _end_of_events(self, access: LiveAccess, follower: Follower, seconds_left: float) -> LiveEnd | None:
        if follower.ended:
            return LiveEnd.CLOSED
        if not access.is_open:
            return LiveEnd.ACCESS
        if self._hub.stopping:
            return LiveEnd.STOPPING
        return LiveEnd.TIMEOUT if seconds_left <= 0 else None

    def _connection_end(self) -> float:
        interval = self._times.reconnect_s
        if not interval:
            return float("inf")
        return monotonic() + interval * random.uniform(1 - RECONNECT_SPREAD, 1 + RECONNECT_SPREAD)

    def _same(self, state: StreamState) -> StreamState:
        """The newest state of that very stream; raises when it has gone, also when another took its name."""
        newest = self._store.find(state.name)
        if newest.config.uid != state.config.uid:
            raise StreamNotFound(state.name)
        return newest

    @contextmanager
    def _attached(self, state: StreamState) -> Iterator[None]:
        self._store.attach(state)
        try:
            yield
        finally:
            self._store.detach(state)


def _access(exchange: Exchange) -> LiveAccess:
    access: LiveAccess = exchange.environ.get(LIVE_ACCESS, UNLIMITED)
    return access


def _client(environ: Environ) -> Watchable:
    """The connection of a request, to be watched while it waits."""
    return environ.get(LIVE_SOCKET) or WatchedSocket(environ.get(SERVER_SOCKET))
