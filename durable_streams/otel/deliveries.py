"""A span for each delivery of a webhook, in the trace of the write that caused it, and given on to the receiver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import propagate
from opentelemetry.trace import NonRecordingSpan, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from durable_streams.otel.spans import RecentWrites
from durable_streams.protocol.subscriptions.state import Subscription, Wake
from durable_streams.subscriptions.dispatching.delivering import DeliveryFailed


class DeliverySpans:
    """Makes the context of a delivery; its value are the headers to send, ``traceparent`` among them."""

    def __init__(self, tracer: Tracer, writes: RecentWrites) -> None:
        self._tracer = tracer
        self._writes = writes

    @contextmanager
    def __call__(self, sub: Subscription, wake: Wake) -> Iterator[Mapping[str, str]]:
        cause = self._writes.first_of(entry.path for entry in wake.entries)
        parent = None if cause is None else set_span_in_context(NonRecordingSpan(cause))
        attributes: dict[str, str | int] = {
            "ds.subscription_id": sub.id,
            "ds.wake_id": wake.id,
            "ds.generation": wake.generation,
        }
        span = self._tracer.start_span("webhook", parent, SpanKind.CLIENT, attributes)
        headers: dict[str, str] = {}
        propagate.inject(headers, set_span_in_context(span))
        try:
            yield headers
        except DeliveryFailed as exc:
            span.set_status(Status(StatusCode.ERROR, str(exc)))
            raise
        finally:
            span.end()
