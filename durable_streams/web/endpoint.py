"""The stream routes as one plain WSGI callable: parse, call the store, render. No rule of the protocol lives here."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from time import perf_counter_ns
from typing import TYPE_CHECKING

from durable_streams.config import Config
from durable_streams.protocol import caching
from durable_streams.protocol.errors import InternalError, MethodNotAllowed, ProtocolError, Unavailable
from durable_streams.protocol.names import check_name
from durable_streams.protocol.state import StreamState
from durable_streams.service import StreamService
from durable_streams.streams.store import Page
from durable_streams.telemetry import RequestLog
from durable_streams.web import rendering
from durable_streams.web.bodies import BodyReader
from durable_streams.web.compression import Compression
from durable_streams.web.cors import ALLOWED_METHODS, CorsHeaders, preflight
from durable_streams.web.live_reads import LiveReads, LiveTimes
from durable_streams.web.parsing import (
    LONG_POLL,
    SSE,
    Read,
    decode_name,
    parse_append,
    parse_create,
    parse_read,
)
from durable_streams.web.problems import problem_response, request_path
from durable_streams.web.response import Answer, Environ

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

log = logging.getLogger("durable_streams.web")

OPERATIONS = {
    "PUT": "create",
    "POST": "append",
    "GET": "read",
    "HEAD": "head",
    "DELETE": "delete",
    LONG_POLL: "poll",
    SSE: "subscribe",
}


class StreamEndpoint:
    """Answers every request below the base path of the streams."""

    def __init__(
        self, service: StreamService, config: Config, base_path: str, *, owns_connection: bool
    ) -> None:
        """``base_path``: where it is mounted, without a slash at the end, such as ``/v1/stream``.

        ``owns_connection``: nothing stands between it and the server, so live events may be written to sockets.
        """
        limits, server = config.limits, config.server
        self.base_path = base_path
        self._service = service
        self._store = store = service.store
        self._limits = limits
        self._visibility = config.http.cache_visibility
        self._cors = CorsHeaders(config.http.cors_origins)
        self._bodies = BodyReader(limits.max_request_body_bytes, server.body_timeout_secs)
        self._compression = Compression(config.http.compression, config.http.compress_sse)
        self._log = RequestLog(config.log, config.storage.mode)
        times = LiveTimes(
            server.long_poll_timeout_secs, server.sse_reconnect_interval_secs, server.sse_heartbeat_secs
        )
        self._live = LiveReads(store, service.hub, service.fanout if owns_connection else None, times)
        self._handlers: dict[str, Callable[[Environ, str], Answer]] = {
            "GET": self._get,
            "POST": self._append,
            "HEAD": self._head,
            "PUT": self._create,
            "DELETE": self._delete,
        }

    def serve(self, environ: Environ, start_response: StartResponse, raw_name: str) -> Iterable[bytes]:
        """Answer a request for the stream ``raw_name`` (Latin-1 text of the decoded path after the base)."""
        started_ns = perf_counter_ns()
        error: ProtocolError | None = None
        try:
            answer = self._answer(environ, raw_name)
        except ProtocolError as refusal:
            error = refusal
            answer = problem_response(refusal, environ)
        except Exception as exc:
            log.exception("request failed: %s %s", environ["REQUEST_METHOD"], request_path(environ))
            error = InternalError(repr(exc))
            answer = problem_response(error, environ)
        if self._log.wants(answer.status):
            self._record(environ, raw_name, answer.status, perf_counter_ns() - started_ns, error)
        return answer.send(start_response, self._cors.of(environ))

    def _answer(self, environ: Environ, raw_name: str) -> Answer:
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            return preflight()
        name = check_name(
            decode_name(raw_name), self._limits.max_stream_name_bytes, self._limits.max_stream_name_segments
        )
        handler = self._handlers.get(method)
        if handler is None:
            raise MethodNotAllowed(method, ALLOWED_METHODS)
        if not self._store.is_open:
            self._service.open()
            if not self._store.is_open:
                raise Unavailable("the storage is closed")
        return handler(environ, name)

    def _create(self, environ: Environ, name: str) -> Answer:
        body = self._bodies.read(environ)
        request = parse_create(environ, name, body, self.base_path)
        return rendering.created(self._store.create(request), _location(environ))

    def _append(self, environ: Environ, name: str) -> Answer:
        outcome = self._store.append(parse_append(environ, name, self._bodies.read(environ)))
        return rendering.appended(outcome)

    def _head(self, environ: Environ, name: str) -> Answer:
        return rendering.metadata(self._store.find(name))

    def _delete(self, environ: Environ, name: str) -> Answer:
        self._store.remove(name)
        return Answer(204)

    def _get(self, environ: Environ, name: str) -> Answer:
        read = parse_read(environ)
        state = self._store.find(name)
        position = state.tail if read.position is None else read.position
        if read.live == SSE:
            coding = self._compression.choose_for_events(environ)
            events = self._live.event_stream(environ, state, position, read.cursor, shared=coding is None)
            self._store.touch(state)
            return self._compression.of_events(events, coding)
        if read.live == LONG_POLL:
            return self._long_poll(environ, state, position, read)
        return self._catch_up(environ, state, position, read)

    def _catch_up(self, environ: Environ, state: StreamState, position: int, read: Read) -> Answer:
        page = self._store.read(state, position, self._limits.max_read_bytes)
        # Only now: a read that is refused for its offset is no read, and renews nothing.
        self._store.touch(state)
        return self._page(environ, page, read, cursor=None)

    def _long_poll(self, environ: Environ, state: StreamState, position: int, read: Read) -> Answer:
        page = self._store.read(state, position, self._limits.max_read_bytes)
        self._store.touch(state)
        if not page.data:
            state = self._live.wait(environ, state, position)
            page = self._store.read(state, position, self._limits.max_read_bytes)
        jitter_s = random.randint(1, caching.CURSOR_JITTER_S_MAX)
        cursor = caching.next_cursor(self._store.clock(), read.cursor, jitter_s)
        if not page.data:
            return rendering.nothing_new(state, cursor)
        return self._page(environ, page, read, cursor)

    def _page(self, environ: Environ, page: Page, read: Read, cursor: str | None) -> Answer:
        """Data in the coding that the client prefers, or 304 when the client has it already."""
        state = page.state
        compressible = self._compression.applies(state.config.media_type, len(page.data))
        coding = self._compression.choose(environ) if compressible else None
        if read.position is None:
            # For whoever asks later, now is another place: nothing to keep, and no tag to compare.
            answer = rendering.page(page, caching.NO_STORE, None, cursor)
        else:
            cache_control = caching.cache_control(state, self._store.clock(), self._visibility)
            tag = caching.entity_tag(state, page.start, page.stop, coding)
            is_known = read.if_none_match is not None and caching.tag_matches(read.if_none_match, tag)
            render = rendering.not_modified if is_known else rendering.page
            answer = render(page, cache_control, tag, cursor)
        return self._compression.of_body(answer, coding) if compressible else answer

    def _record(
        self, environ: Environ, raw_name: str, status: int, duration_ns: int, error: ProtocolError | None
    ) -> None:
        live = next(
            (mode for mode in (LONG_POLL, SSE) if f"live={mode}" in environ.get("QUERY_STRING", "")), None
        )
        method = environ["REQUEST_METHOD"]
        operation = OPERATIONS.get(live or method if method == "GET" else method, "request")
        self._log.record(
            environ,
            operation=operation,
            stream_id=raw_name.encode("latin-1").decode("utf-8", "replace"),
            live_mode=live,
            status=status,
            duration_ns=duration_ns,
            problem=error,
        )


def _location(environ: Environ) -> str:
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    return f"{environ['wsgi.url_scheme']}://{host}{request_path(environ)}"
