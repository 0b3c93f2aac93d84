"""The operations on streams: parse, call the store, render. No rule of the protocol lives here."""

from __future__ import annotations

import logging
import random
from collections.abc import Generator, Iterable, Sequence
from functools import lru_cache
from typing import Final

from durable_streams.config import Config
from durable_streams.eventloop.turns import CutShort, StreamedBody
from durable_streams.protocol import caching
from durable_streams.protocol.errors import MethodNotAllowed, ProtocolError
from durable_streams.protocol.names import check_name
from durable_streams.protocol.state import StreamState
from durable_streams.service import StreamService
from durable_streams.streams.store import Page
from durable_streams.web import rendering
from durable_streams.web.bodies import BodyReader, InFlight
from durable_streams.web.codings.compression import Compression
from durable_streams.web.codings.pages import PageCache
from durable_streams.web.exchange import Exchange, Handler, LiveEnd
from durable_streams.web.parsing import (
    SSE,
    Read,
    decode_name,
    parse_append,
    parse_create,
    parse_fork_source,
    parse_precondition,
    parse_read,
)
from durable_streams.web.problems import request_path
from durable_streams.web.reads.kept_answers import KeptAnswers, key_of
from durable_streams.web.reads.live_reads import LiveReads, LiveTimes
from durable_streams.web.response import Environ, Response

CREATE: Final = "create"
APPEND: Final = "append"
READ: Final = "read"
POLL: Final = "poll"
SUBSCRIBE: Final = "subscribe"
HEAD: Final = "head"
DELETE: Final = "delete"
NAMES_REMEMBERED: Final = 4096
"""Names whose check is cached; a refused one is not."""
POLL_BYTES_MAX: Final = 1024 * 1024
"""Stored bytes in the answer to a long-poll, where no limit is set: its client asks for more anyway."""
READ_METHODS: Final = "GET, HEAD, OPTIONS"
ALL_METHODS: Final = "GET, HEAD, POST, PUT, DELETE, OPTIONS"

log = logging.getLogger("durable_streams.web")


class StreamRoutes:
    """GET, HEAD, POST, PUT and DELETE of a stream; sections 5.1 to 5.8."""

    def __init__(
        self,
        service: StreamService,
        config: Config,
        base_paths: Sequence[str],
        *,
        owns_connection: bool,
        gated: bool = False,
        read_only: bool = False,
    ) -> None:
        """``base_paths``: where the streams are mounted, without a slash at the end, such as ``/v1/stream``.

        ``owns_connection``: nothing stands between this and the server, so live events may be written to sockets.
        ``gated``: reads are restricted, so shared caches must keep nothing.
        """
        limits, server = config.limits, config.server
        self.allowed_methods = READ_METHODS if read_only else ALL_METHODS
        self._store = store = service.store
        self._read_bytes_max = limits.max_read_bytes or None
        self._bodies = BodyReader(
            limits.max_request_body_bytes,
            server.body_timeout_secs,
            InFlight(limits.max_inflight_body_bytes, store.writes.budget.check_room),
            limits.max_compressions,
        )
        self._compression = Compression(
            config.http.compression,
            config.http.compress_sse,
            limits.max_compressions,
            PageCache(limits.max_compressed_cache_bytes),
        )
        self._answers = KeptAnswers()
        self._base_paths = base_paths
        self._visibility = config.auth.cache_control if gated else config.http.cache_visibility
        self._varies = gated
        times = LiveTimes(
            server.long_poll_timeout_secs, server.sse_reconnect_interval_secs, server.sse_heartbeat_secs
        )
        self._live = LiveReads(store, service.hub, service.fanout if owns_connection else None, times)
        name_limits = limits.max_stream_name_bytes, limits.max_stream_name_segments
        self._name = lru_cache(NAMES_REMEMBERED)(lambda raw: check_name(decode_name(raw), *name_limits))
        writes: dict[str, tuple[str, Handler]] = {
            "POST": (APPEND, self._append),
            "PUT": (CREATE, self._create),
            "DELETE": (DELETE, self._delete),
        }
        self._handlers = {"HEAD": (HEAD, self._head), **({} if read_only else writes)}

    def route(self, exchange: Exchange, raw_name: str) -> Handler:
        """The handler of the method. Raises InvalidStreamName, MethodNotAllowed, BadRequest, InvalidOffset."""
        exchange.name = self._name(raw_name)
        method = exchange.environ["REQUEST_METHOD"]
        if method == "GET":
            return self._route_read(exchange)
        found = self._handlers.get(method)
        if found is None:
            raise MethodNotAllowed(method, self.allowed_methods)
        exchange.operation, handler = found
        if method == "PUT":
            exchange.source = parse_fork_source(exchange.environ, self._base_paths)
        return handler

    def _route_read(self, exchange: Exchange) -> Handler:
        environ = exchange.environ
        exchange.operation = READ
        exchange.read = read = parse_read(environ.get("QUERY_STRING", ""), environ.get("HTTP_LAST_EVENT_ID"))
        exchange.live = live = read.live
        if live is None:
            return self._catch_up
        if live == SSE:
            exchange.operation = SUBSCRIBE
            return self._subscribe
        exchange.operation = POLL
        return self._long_poll

    def _create(self, exchange: Exchange) -> Response:
        environ = exchange.environ
        try:
            body = self._bodies.read(environ)
            request = parse_create(environ, exchange.name, body, exchange.source)
            return rendering.created(self._store.create(request), _location(environ))
        finally:
            self._bodies.release(environ)

    def _append(self, exchange: Exchange) -> Response:
        environ = exchange.environ
        try:
            request = parse_append(environ, exchange.name, self._bodies.read(environ))
            return rendering.appended(self._store.append(request))
        finally:
            self._bodies.release(environ)

    def _head(self, exchange: Exchange) -> Response:
        return rendering.metadata(self._store.find(exchange.name))

    def _delete(self, exchange: Exchange) -> Response:
        self._store.remove(exchange.name, parse_precondition(exchange.environ))
        return Response(204)

    def _catch_up(self, exchange: Exchange) -> Response:
        store, read = self._store, exchange.read
        state = store.find(exchange.name)
        key = key_of(exchange.name, exchange.environ)
        kept = self._answers.find(key, state)
        if kept is not None:
            return kept
        page = store.read(state, store.position_of(state, read.offset), self._read_bytes_max)
        # After the offset is checked: a refused read does not renew the window.
        store.touch(state)
        response = self._page(exchange.environ, page, read, cursor=None)
        self._answers.keep(key, state, response)
        return response

    def _long_poll(self, exchange: Exchange) -> Response:
        store, read = self._store, exchange.read
        state = store.find(exchange.name)
        position = store.position_of(state, read.offset)
        bytes_max = self._read_bytes_max or POLL_BYTES_MAX
        page = store.read(state, position, bytes_max)
        store.touch(state)
        if page.data:
            exchange.end = LiveEnd.DATA
        else:
            state = self._live.wait(exchange, state, position)
            page = store.read(state, position, bytes_max)
        jitter_s = random.randint(1, caching.CURSOR_JITTER_S_MAX)
        cursor = caching.next_cursor(store.clock(), read.cursor, jitter_s)
        if not page.data:
            return rendering.nothing_new(state, cursor)
        return self._page(exchange.environ, page, read, cursor)

    def _subscribe(self, exchange: Exchange) -> Response:
        state = self._store.find(exchange.name)
        position = self._store.position_of(state, exchange.read.offset)
        if state.closed and position == state.tail and exchange.environ.get("HTTP_LAST_EVENT_ID"):
            # An EventSource comes back for ever to a stream that it has read to its end, unless it is answered 204.
            exchange.end = LiveEnd.CLOSED
            self._store.touch(state)
            return rendering.finished(state)
        coding = self._compression.choose_for_events(exchange.environ)
        response = self._live.event_stream(exchange, state, position, shared=coding is None)
        self._store.touch(state)
        return self._compression.of_events(response, coding)

    def _page(self, environ: Environ, page: Page, read: Read, cursor: str | None) -> Response:
        """Data in the coding that the client prefers, or 304 when its copy is still valid."""
        state = page.state
        compressible = self._compression.applies(state.config.media_type, page.stop - page.start)
        coding = self._compression.choose(environ) if compressible else None
        if read.offset is None:
            # ``offset=now`` moves with every append: nothing to cache, and no tag to compare.
            tag = None
            response = rendering.page(page, caching.NO_STORE, tag, cursor)
        else:
            cache_control = caching.cache_control(
                state, page.start, page.stop, self._store.clock(), self._visibility
            )
            tag = caching.entity_tag(state, page.start, page.stop, coding)
            known = environ.get("HTTP_IF_NONE_MATCH")
            is_known = known is not None and caching.tag_matches(known, tag)
            render = rendering.not_modified if is_known else rendering.page
            response = render(page, cache_control, tag, cursor)
            if self._varies:
                # In one browser, another user must not be given what the first one was allowed to read.
                response.headers.append(("Vary", "Authorization"))
        if compressible:
            response = self._compression.of_body(response, coding, tag)
        if not isinstance(response.body, bytes):
            response.body = StreamedBody(self._held(state, response.body))
        return response

    def _held(self, state: StreamState, pieces: Iterable[bytes]) -> Generator[bytes]:
        """The rest of a stream while it is sent; the stream does not expire meanwhile, but it may be deleted."""
        self._store.attach(state)
        try:
            yield from pieces
        except ProtocolError as error:
            level = logging.ERROR if error.status >= 500 else logging.INFO
            log.log(level, "a read of %r is cut short: %s", state.name, getattr(error, "cause", error))
            raise CutShort(str(error)) from error
        finally:
            self._store.detach(state)


def _location(environ: Environ) -> str:
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    return f"{environ['wsgi.url_scheme']}://{host}{request_path(environ)}"
