"""Spans: one for each request, in the trace of its client, and one for each webhook, which gets the trace too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from durable_streams.otel.deliveries import DeliverySpans
from durable_streams.otel.spans import WRITES_REMEMBERED, RecentWrites, RequestSpans
from durable_streams.protocol.errors import Forbidden
from durable_streams.web.exchange import Exchange
from tests.subscriptions.driving import Subscribed, delivery
from tests.subscriptions.receiver import DONE, Receiver, answer
from tests.web.driving import TEXT, Server

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


class Traced:
    """A server, and the spans that it has ended."""

    def __init__(self, **arguments: Any) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        tracer, writes = provider.get_tracer("test"), RecentWrites()
        spans = RequestSpans(tracer, writes)
        gates = [spans, *arguments.pop("gates", ())]
        self.server = Subscribed(gates=gates, observers=[spans], **arguments)
        self.server.subscriptions.surround_deliveries(DeliverySpans(tracer, writes))

    def spans(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if name in ("", span.name)]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.spans(name)
        return span


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    yield traced
    traced.server.close()


def facts(span: ReadableSpan) -> dict[str, Any]:
    assert span.attributes is not None
    return dict(span.attributes)


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def test_a_request_has_a_span_with_what_it_was(traced: Traced) -> None:
    traced.server.request("PUT", "a/b", b"x", TEXT, REMOTE_ADDR="10.0.0.1")
    span = traced.one("create")
    assert span.kind is SpanKind.SERVER
    assert facts(span) == {
        "http.request.method": "PUT",
        "url.path": "/v1/stream/a/b",
        "url.scheme": "http",
        "client.address": "10.0.0.1",
        "http.response.status_code": 201,
        "ds.operation": "create",
        "ds.stream_id": "a/b",
    }
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time > span.start_time


def test_the_trace_of_the_client_goes_on(traced: Traced) -> None:
    traced.server.request("GET", "missing", b"", PARENT)
    span = traced.one("read")
    assert trace_of(span) == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    traced.server.request("HEAD", "missing", b"", {"traceparent": "garbage"})
    assert traced.one("head").parent is None


def test_a_client_that_does_not_want_to_be_sampled_is_not(traced: Traced) -> None:
    traced.server.request("GET", "missing", b"", {"traceparent": PARENT["traceparent"][:-1] + "0"})
    assert traced.spans() == []


def test_the_query_is_in_no_span(traced: Traced) -> None:
    traced.server.get("missing?offset=-1&token=secret")
    assert "secret" not in str(facts(traced.one("read")))


def refuse(exchange: Exchange) -> None:
    raise Forbidden("no")


def test_refusals_of_gates_routes_and_flask_have_one_too() -> None:
    traced = Traced(gates=[refuse])
    traced.server.get("a")
    span = traced.one("read")
    assert facts(span)["error.type"] == "FORBIDDEN"
    assert span.status.status_code is StatusCode.UNSET, "the client's fault"
    traced.server.request("PATCH", "a")
    traced.server.request("OPTIONS", "a")
    traced.server.get("/nowhere")
    statuses = [facts(span)["http.response.status_code"] for span in traced.spans()]
    assert statuses == [403, 405, 204, 403]
    traced.server.close()


def test_an_event_stream_has_one_span_that_ends_with_it(traced: Traced) -> None:
    traced.server.put("a", b"x", TEXT)
    reader = traced.server.reading("a?offset=-1&live=sse", PARENT)
    reader.caught_up()
    assert traced.spans("subscribe") == []
    traced.server.post("a", b"", {"Stream-Closed": "true"})
    reader.rest()
    found = facts(traced.one("subscribe"))
    assert found["ds.live_end"] == "stream closed"
    assert found["http.response.body.size"] > 0


def test_a_long_poll_has_one_that_says_how_it_ended(traced: Traced) -> None:
    traced.server.put("a", b"xyz", TEXT)
    traced.server.get("a?offset=-1&live=long-poll")
    found = facts(traced.one("poll"))
    assert (found["ds.live_end"], found["http.response.body.size"]) == ("data", 3)


def test_a_webhook_is_sent_in_the_trace_of_its_write(traced: Traced) -> None:
    server = traced.server
    with Receiver(DONE) as receiver:
        server.subscribe(webhook={"url": receiver.url})
        server.request("PUT", "events/a", b"[1]", {"Content-Type": "application/json", **PARENT})
        sent = delivery(receiver)
        server.settle()
    version, trace, span_id, flags = sent.headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    span = traced.one("webhook")
    assert span.context is not None
    assert f"{span.context.span_id:016x}" == span_id
    created = traced.one("create").context
    assert span.parent is not None
    assert created is not None
    assert span.parent.span_id == created.span_id
    assert facts(span)["ds.subscription_id"] == "sub-1"


def test_a_delivery_that_failed_says_so(traced: Traced) -> None:
    server = traced.server
    with Receiver(answer({}, "500 Internal Server Error")) as receiver:
        server.subscribe(webhook={"url": receiver.url})
        server.create("events/a", 1)
        delivery(receiver)
        server.settle()
    assert traced.spans("webhook")[0].status.status_code is StatusCode.ERROR


def test_without_tracing_a_webhook_has_no_traceparent() -> None:
    server = Subscribed()
    with Receiver(DONE) as receiver:
        server.subscribe(webhook={"url": receiver.url})
        server.create("events/a", 1)
        assert "traceparent" not in delivery(receiver).headers
    server.close()


def test_writes_that_are_remembered_are_bounded() -> None:
    tracer = TracerProvider().get_tracer("test")
    writes, span = RecentWrites(), tracer.start_span("write")
    for number in range(WRITES_REMEMBERED + 5):
        writes.note(f"s{number}", span)
    assert writes.first_of(["s0", "s4"]) is None
    assert writes.first_of(["s0", "s5"]) == span.get_span_context()


def test_a_server_without_the_setting_has_no_gate_and_no_observer() -> None:
    server = Server()
    begin = server.flask.before_request_funcs[None][0]
    hooks = begin.__closure__[0].cell_contents  # type: ignore[index]
    assert (hooks.gates, hooks.observers) == ((), ())
    server.close()
