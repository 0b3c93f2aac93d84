"""A span for each request, from its route to its last byte; its trace is that of the client's ``traceparent``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from time import perf_counter_ns, time_ns
from typing import Any, Final

from opentelemetry import propagate
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from durable_streams.exchanges import Exchange, Problem
from durable_streams.telemetry.request_ids import REQUEST_ID

SPAN: Final = "durable_streams.span"
"""The key of the environ that holds the span of a request."""
WRITES: Final = frozenset({"append", "create"})
WRITES_REMEMBERED: Final = 10_000
"""Streams whose last write is known, for the webhooks that it causes."""


class RecentWrites:
    """The span of the last write of each stream, for as many streams as have been written to last."""

    def __init__(self) -> None:
        self._contexts: OrderedDict[str, SpanContext] = OrderedDict()

    def note(self, name: str, span: Span) -> None:
        self._contexts[name] = span.get_span_context()
        self._contexts.move_to_end(name)
        if len(self._contexts) > WRITES_REMEMBERED:
            self._contexts.popitem(last=False)

    def first_of(self, names: Iterable[str]) -> SpanContext | None:
        """That of the first of ``names`` that is known."""
        return next((self._contexts[name] for name in names if name in self._contexts), None)


class RequestSpans:
    """A gate that begins the span of a request, and the observer that ends it. It refuses nothing."""

    def __init__(self, tracer: Tracer, writes: RecentWrites) -> None:
        self._tracer = tracer
        self._writes = writes

    def __call__(self, exchange: Exchange) -> None:
        exchange.environ[SPAN] = span = self._begun(exchange)
        if exchange.operation in WRITES:
            self._writes.note(exchange.name, span)

    def finished(self, exchange: Exchange, status: int, duration_ns: int, error: Problem | None) -> None:
        """The response is complete, or an event stream begins."""
        # One that was refused before the gates has none yet.
        span = exchange.environ.setdefault(SPAN, None) or self._begun(exchange)
        span.set_attribute("http.response.status_code", status)
        if error is not None:
            span.set_attribute("error.type", error.code)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        if exchange.live is None or error is not None:
            span.end()
        else:
            exchange.environ[SPAN] = span

    def ended(self, exchange: Exchange, duration_ns: int) -> None:
        """A live read is over."""
        span: Span | None = exchange.environ.get(SPAN)
        if span is not None:
            span.set_attribute("http.response.body.size", exchange.sent_bytes)
            span.set_attribute("ds.live_end", str(exchange.end))
            span.end()

    def _begun(self, exchange: Exchange) -> Span:
        began_at = time_ns() - (perf_counter_ns() - exchange.started_ns)
        return self._tracer.start_span(
            exchange.operation,
            propagate.extract(exchange.environ, getter=_HEADERS),
            SpanKind.SERVER,
            _attributes(exchange),
            start_time=began_at,
        )


def _attributes(exchange: Exchange) -> dict[str, str]:
    """The query is left out: it may carry a token."""
    environ = exchange.environ
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    found = {
        "http.request.method": environ["REQUEST_METHOD"],
        "url.path": path.encode("latin-1", "replace").decode("utf-8", "replace"),
        "url.scheme": environ.get("wsgi.url_scheme"),
        "client.address": environ.get("REMOTE_ADDR"),
        "user_agent.original": environ.get("HTTP_USER_AGENT"),
        "http.request.id": environ.get(REQUEST_ID),
        "ds.operation": exchange.operation,
        "ds.stream_id": exchange.name,
        "ds.live_mode": exchange.live,
    }
    return {name: value for name, value in found.items() if value}


class _Headers(Getter[dict[str, Any]]):
    """Reads the headers of a request from its environ."""

    def get(self, carrier: dict[str, Any], key: str) -> list[str] | None:
        value = carrier.get("HTTP_" + key.upper().replace("-", "_"))
        return None if value is None else [value]

    def keys(self, carrier: dict[str, Any]) -> list[str]:
        return [name[5:].replace("_", "-").lower() for name in carrier if name.startswith("HTTP_")]


_HEADERS: Final = _Headers()
