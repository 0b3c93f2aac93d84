"""Streams for Python code in the process that serves them: the same operations and errors as over HTTP, typed.

To be called from greenlets of the event loop, or from any other native thread, whose calls the loop then carries out.
Gates guard HTTP alone: code that holds a ``Streams`` may do everything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from gevent.event import Event

from durable_streams.config.settings import LimitSettings
from durable_streams.eventloop.loop_calls import LoopCalls, LoopUnavailable
from durable_streams.eventloop.turns import StreamedBody
from durable_streams.protocol.content import check_content_type
from durable_streams.protocol.errors import (
    RequestBodyTooLarge,
    StreamNotFound,
    Unavailable,
)
from durable_streams.protocol.headers import parse_expected_offset, parse_expiry
from durable_streams.protocol.names import check_name
from durable_streams.protocol.offsets import FROM_START, parse_offset, parse_read_offset
from durable_streams.protocol.requests import Append, Create, ForkSource, Producer
from durable_streams.protocol.state import StreamState
from durable_streams.service import StreamService

__all__ = ["Appended", "Page", "Producer", "StreamInfo", "Streams", "Tail"]

LOOP_WAIT_S_MAX: Final = 30.0
"""A call of another thread that the loop has not begun by then raises Unavailable, and is not made."""

TAIL_BYTES_MAX: Final = 1024 * 1024
"""Stored bytes in a page of ``Streams.tail`` where no limit is set."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream at one moment (section 5.5). ``offset`` is its end; ``is_new``: the call has created it.

    ``message_offsets``: its messages have the offset of their append in ``headers`` (an extension, docs/http.md).
    """

    name: str
    content_type: str
    offset: str
    closed: bool
    ttl_s: int | None
    expires_at: datetime | None
    is_new: bool = False
    message_offsets: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """The end of the stream after an append (section 5.2); ``duplicate``: its producer had sent it before."""

    offset: str
    closed: bool
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a stream (section 5.6); ``offset`` is where the next one begins.

    ``data``: what GET would return, so a JSON array for a JSON stream. ``closed``: the stream ends with this page.
    """

    data: bytes
    offset: str
    content_type: str
    up_to_date: bool
    closed: bool

    @property
    def text(self) -> str:
        """``data`` as UTF-8; raises UnicodeDecodeError."""
        return self.data.decode()

    @property
    def messages(self) -> list[Any]:
        """The values of a JSON stream; raises ValueError for any other."""
        found = json.loads(self.data)
        if not isinstance(found, list):
            raise ValueError(f"a stream of {self.content_type} has no messages")
        return found


class _Access:
    """The store, open, in the thread of its loop."""

    def __init__(self, service: StreamService, limits: LimitSettings) -> None:
        self.service = service
        self.store = service.store
        self.limits = limits
        self._calls = LoopCalls(LOOP_WAIT_S_MAX)
        service.on_ready.append(lambda is_ready: self._calls.bind() if is_ready else None)

    def run(self, step: Callable[[], T]) -> T:
        """What ``step()`` returns or raises, in the thread of the loop."""
        try:
            return self._calls.run(step)
        except LoopUnavailable as exc:
            raise Unavailable(str(exc)) from exc

    def run_open(self, step: Callable[[], T]) -> T:
        """The same, with the storage open; raises Unavailable once it has been closed."""

        def opened() -> T:
            if not self.store.is_open:
                self.service.open()
                if not self.store.is_open:
                    raise Unavailable("the storage is closed")
            return step()

        return self.run(opened)

    def page(self, state: StreamState, position: int, bytes_max: int | None) -> Page:
        """At most ``bytes_max`` stored bytes; None: all that there is."""
        found = self.store.read(state, position, bytes_max)
        self.store.touch(state)
        return Page(
            found.body if found.more is None else b"".join(StreamedBody(found.pieces())),
            found.next_offset,
            state.config.content_type,
            found.at_tail,
            found.at_tail and state.closed,
        )

    def name(self, name: str) -> str:
        return check_name(name, self.limits.max_stream_name_bytes, self.limits.max_stream_name_segments)

    def body(self, data: bytes | str) -> bytes:
        body = data.encode() if isinstance(data, str) else bytes(data)
        if len(body) > self.limits.max_request_body_bytes:
            raise RequestBodyTooLarge(self.limits.max_request_body_bytes)
        return body


class Streams:
    """All streams of one storage. Every method raises the ProtocolError that the same request over HTTP reports."""

    def __init__(self, service: StreamService, limits: LimitSettings) -> None:
        self._access = _Access(service, limits)

    def open(self) -> None:
        """Open the storage, in the thread of the event loop; raises what ``Storage.open`` raises."""
        self._access.run(self._access.service.open)

    def stop(self) -> None:
        """End all live reads, finish accepted writes, release the storage. Calling it twice is harmless."""
        self._access.run(self._access.service.close)

    def create(
        self,
        name: str,
        content_type: str | None = None,
        data: bytes | str = b"",
        *,
        ttl_s: int | None = None,
        expires_at: datetime | None = None,
        closed: bool = False,
        fork_of: str | None = None,
        fork_offset: str | None = None,
        fork_sub_offset: int = 0,
        message_offsets: bool | None = None,
    ) -> StreamInfo:
        """Create a stream, or find it there with the same configuration (section 5.1; forks: 4.2).

        ``content_type`` None: that of the source for a fork, else ``application/octet-stream``. ``expires_at`` has to
        be aware of its time zone. ``message_offsets`` None: what the source or the settings say. Raises StreamExists
        where the configuration differs.
        """
        expiry = parse_expiry(
            None if ttl_s is None else str(ttl_s), None if expires_at is None else expires_at.isoformat()
        )
        anchor = None if fork_offset is None else parse_offset(fork_offset)
        request = Create(
            self._access.name(name),
            None if content_type is None else check_content_type(content_type),
            expiry,
            closed,
            self._access.body(data),
            None if fork_of is None else ForkSource(fork_of, anchor, fork_sub_offset),
            message_offsets=message_offsets,
        )
        created = self._access.run_open(lambda: self._access.store.create(request))
        return _info(created.state, is_new=not created.existed)

    def append(
        self,
        name: str,
        data: bytes | str,
        *,
        close: bool = False,
        seq: str | None = None,
        producer: Producer | None = None,
        expected_offset: str | None = None,
    ) -> Appended:
        """Append ``data``, which is of the stream's content type, and ``close`` the stream with it (section 5.2).

        ``seq`` is Stream-Seq; ``producer`` makes a repeated append recognisable (section 5.2.1). With
        ``expected_offset``, raises ExpectedOffsetMismatch unless the stream ends there.
        """
        checked, body = self._access.name(name), self._access.body(data)
        expected = None if expected_offset is None else parse_expected_offset(expected_offset)

        def step() -> Appended:
            content_type = self._access.store.find(checked).config.content_type if body else None
            request = Append(checked, content_type, body, close, seq, producer, expected)
            outcome = self._access.store.append(request)
            return Appended(outcome.state.next_offset, outcome.closed, outcome.duplicate)

        return self._access.run_open(step)

    def append_json(self, name: str, *messages: Any, close: bool = False) -> Appended:
        """Append each of ``messages`` to a JSON stream; raises ValueError or TypeError for what is not JSON."""
        text = json.dumps(messages, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return self.append(name, text if messages else b"", close=close)

    def close(self, name: str) -> Appended:
        """Close the stream: nothing more will follow (section 5.3). Closing it twice is harmless."""
        return self.append(name, b"", close=True)

    def read(self, name: str, offset: str = FROM_START, *, bytes_max: int | None = None) -> Page:
        """The data after ``offset`` (section 5.6). An empty page with ``up_to_date`` is the end of an open stream.

        At most ``bytes_max`` stored bytes, and at most the setting ``limits.max_read_bytes``; without either all that
        there is, in memory. ``tail`` gives a long stream page by page.
        """
        checked = self._access.name(name)
        limits = [
            most for most in (bytes_max, self._access.limits.max_read_bytes or None) if most is not None
        ]

        def step() -> Page:
            state = self._access.store.find(checked)
            position = self._access.store.position_of(state, parse_read_offset(offset))
            return self._access.page(state, position, min(limits, default=None))

        return self._access.run_open(step)

    def tail(self, name: str, offset: str = FROM_START, *, idle_s: float | None = None) -> Tail:
        """Iterate over the pages from ``offset`` on, and wait for more, until the stream is closed.

        Ends as well when nothing has come for ``idle_s`` seconds, and when the server stops. A stream that is deleted
        raises StreamNotFound or StreamGone.
        """
        return Tail(self._access, self._access.name(name), offset, idle_s)

    def head(self, name: str) -> StreamInfo:
        """The stream without its data (section 5.5)."""
        checked = self._access.name(name)
        return _info(self._access.run_open(lambda: self._access.store.find(checked)))

    def delete(self, name: str) -> None:
        """Delete the stream (section 5.4); its forks keep their bytes."""
        checked = self._access.name(name)
        self._access.run_open(lambda: self._access.store.remove(checked))


class Tail(Iterator[Page]):
    """The pages of one stream as they come; ``offset`` is where the next one will begin."""

    def __init__(self, access: _Access, name: str, offset: str, idle_s: float | None) -> None:
        self.name = name
        self.offset = offset
        self._access = access
        self._idle_s = idle_s
        self._uid: str | None = None

    def __next__(self) -> Page:
        page = self._access.run_open(self._next_page)
        if page is None:
            raise StopIteration
        return page

    def _next_page(self) -> Page | None:
        service = self._access.service
        with service.hub.watch(self.name, "python") as watch:
            while True:
                wake = watch.event()
                state = self._state()
                position = service.store.position_of(state, parse_read_offset(self.offset))
                # ``now`` is a place from the first look on.
                self.offset = service.store.offset_at(state, position)
                if position != state.tail:
                    page = self._access.page(
                        state, position, self._access.limits.max_read_bytes or TAIL_BYTES_MAX
                    )
                    self.offset = page.offset
                    return page
                if state.closed or service.hub.stopping or not self._wait(state, wake):
                    return None

    def _state(self) -> StreamState:
        """The newest state of the stream that the first page came from; another one of its name is not read."""
        state = self._access.store.find(self.name)
        if self._uid not in (None, state.config.uid):
            raise StreamNotFound(self.name)
        self._uid = state.config.uid
        return state

    def _wait(self, state: StreamState, wake: Event) -> bool:
        store = self._access.store
        store.attach(state)
        try:
            return bool(wake.wait(self._idle_s))
        finally:
            store.detach(state)


def _info(state: StreamState, *, is_new: bool = False) -> StreamInfo:
    expiry = state.config.expiry
    return StreamInfo(
        state.name,
        state.config.content_type,
        state.next_offset,
        state.closed,
        expiry.ttl_s,
        None if expiry.expires_at is None else datetime.fromtimestamp(expiry.expires_at, UTC),
        is_new,
        state.config.message_offsets,
    )
