"""One request, from its route to its last byte, with its gates and observers.

A gate runs before the handler and may refuse the request. An observer runs after it and may not. An application without
gates and observers pays for two checks of an empty tuple.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter_ns
from typing import Final, Protocol

from durable_streams.protocol.errors import ProtocolError
from durable_streams.web.parsing import Read
from durable_streams.web.problems import problem_response
from durable_streams.web.response import Environ, Response

UNROUTED: Final = "request"
"""The operation of a request without a route."""

log = logging.getLogger("durable_streams.web")


class LiveEnd(StrEnum):
    """Why a long-poll or an event stream has ended."""

    DATA = "data"
    """A long-poll returns data."""
    CLOSED = "stream closed"
    DELETED = "stream deleted"
    TIMEOUT = "timeout"
    """The long-poll timeout, or the reconnect interval of event streams, has passed."""
    CLIENT_GONE = "client gone"
    NOT_TEXT = "not text"
    """What comes next is no UTF-8; the client comes back and gets base64."""
    STOPPING = "server stopping"
    ACCESS = "access ended"
    """The token of the reader has expired or was revoked."""
    FAILED = "failed"


class Exchange:
    """A request and what is known of it; routes, gates and live reads fill it in, observers read it.

    ``name``: the stream (or the path below the base, where it names none); empty outside the base.
    ``operation``: what is asked for, such as ``append``. ``live``: ``long-poll``, ``sse`` or None.
    ``source``: the stream that a create forks from. ``principal``: who asks, if a gate has found out.
    ``read``: the query of a GET of a stream, unset otherwise. ``started_ns``: of ``perf_counter_ns``.
    ``exempt``: what is asked for is public, or the request carries a token that its handler checks, so a gate that
    asks for credentials lets it pass. ``error_response``: the form that errors take.
    ``sent_bytes`` and ``end`` belong to a live read; both are final once it has ended, a long-poll with its response.
    """

    # Defaults of the class: most requests never set them, and an exchange is made for each one.
    live: str | None = None
    source: str | None = None
    principal: object = None
    read: Read
    sent_bytes = 0
    end: LiveEnd | None = None
    exempt = False
    error_response: Callable[[ProtocolError, Environ], Response] = staticmethod(problem_response)

    def __init__(self, environ: Environ, name: str = "", operation: str = UNROUTED) -> None:
        self.started_ns = perf_counter_ns()
        self.environ = environ
        self.name = name
        self.operation = operation


Handler = Callable[[Exchange], Response]
Gate = Callable[[Exchange], None]
"""Raises a ProtocolError to refuse the request; may set ``principal``.

It runs once the route is known and the name and the query are well-formed, before the body is read and before the
stream is looked at. A preflight (OPTIONS) carries no credentials and passes no gate. A gate that asks for credentials
lets an ``exempt`` exchange pass.
"""


class Routes(Protocol):
    """Finds the handler of a request and fills in ``operation``."""

    def route(self, exchange: Exchange, raw_name: str) -> Handler:
        """``raw_name`` is the path below the base as WSGI has it. Raises the ProtocolError of a wrong request line."""


class Observer(Protocol):
    """Is told of every request, also of one refused by a gate or by the routing."""

    def finished(
        self, exchange: Exchange, status: int, duration_ns: int, error: ProtocolError | None
    ) -> None:
        """The response is complete; an event stream begins. ``error``: the error that it reports, if any."""

    def ended(self, exchange: Exchange, duration_ns: int) -> None:
        """A live read is over (always after ``finished``): see ``exchange.end`` and ``exchange.sent_bytes``."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """The gates and the observers of one application, each in the order in which they are called.

    ``is_guarded``: one of the gates decides who may do what, so answers are not for everybody.
    """

    gates: tuple[Gate, ...] = ()
    observers: tuple[Observer, ...] = ()
    is_guarded: bool = False

    def follow(self, exchange: Exchange, response: Response) -> None:
        """Report the end of a live read; the body of an event stream is wrapped for that."""
        if isinstance(response.body, bytes):
            self.ended(exchange)
        else:
            response.body = ObservedBody(response.body, exchange, self)

    def finished(self, exchange: Exchange, status: int, error: ProtocolError | None) -> None:
        duration_ns = perf_counter_ns() - exchange.started_ns
        for observer in self.observers:
            try:
                observer.finished(exchange, status, duration_ns, error)
            except Exception:
                # The request has been carried out, and the client must get its response.
                log.exception("an observer failed: %r", observer)

    def ended(self, exchange: Exchange) -> None:
        duration_ns = perf_counter_ns() - exchange.started_ns
        for observer in self.observers:
            try:
                observer.ended(exchange, duration_ns)
            except Exception:
                log.exception("an observer failed: %r", observer)


class ObservedBody:
    """The events of one reader, counted; closing it tells the observers that they have ended."""

    def __init__(self, events: Iterable[bytes], exchange: Exchange, hooks: Hooks) -> None:
        self._events = events
        self._exchange = exchange
        self._hooks = hooks
        self._is_over = False

    def __iter__(self) -> Iterator[bytes]:
        exchange = self._exchange
        for event in self._events:
            exchange.sent_bytes += len(event)
            yield event

    def close(self) -> None:
        """Called by every WSGI server, also when the client has gone. Calling it twice is harmless."""
        close = getattr(self._events, "close", None)
        if close is not None:
            close()
        if not self._is_over:
            self._is_over = True
            exchange = self._exchange
            exchange.end = exchange.end or LiveEnd.CLIENT_GONE
            self._hooks.ended(exchange)
