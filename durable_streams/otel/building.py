"""OpenTelemetry's SDK for this process, by the standard variables: what is sent, where to, and which part of it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from durable_streams.eventloop import stopping
from durable_streams.extras import require_extra
from durable_streams.service import StreamService

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import Tracer

    from durable_streams.metrics.collecting import Metrics
    from durable_streams.otel.spans import RequestSpans

EXTRA: Final = "otel"
PURPOSE: Final = "otel.enabled = true"
SPANS_AT_ONCE: Final = 64
"""Spans in one export, unless OTEL_BSP_MAX_EXPORT_BATCH_SIZE says otherwise: encoding more holds the loop too long."""
METRICS_INTERVAL_MS: Final = 60_000
_CHOICES: Final = {
    "OTEL_TRACES_EXPORTER": ("otlp", "none"),
    "OTEL_METRICS_EXPORTER": ("otlp", "none"),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("http/protobuf",),
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": ("http/protobuf",),
    "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": ("http/protobuf",),
}
_NUMBERS: Final = ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_METRIC_EXPORT_INTERVAL")


def unfit_variable(environ: Mapping[str, str]) -> str | None:
    """Why one of the variables cannot be obeyed; the SDK would only log that, or take another default."""
    for name, choices in _CHOICES.items():
        value = environ.get(name, "")
        if value and value not in choices:
            return f"{name} = {value!r}: this server knows {' and '.join(choices)}"
    for name in _NUMBERS:
        value = environ.get(name, "")
        if value and not (value.isascii() and value.isdecimal() and int(value) > 0):
            return f"{name} = {value!r}: must be a whole number of at least 1"
    return None


def begin_tracing(service: StreamService, version: str) -> RequestSpans | None:
    """What is to be a gate and an observer of requests; None where OTEL_TRACES_EXPORTER is ``none``.

    Deliveries of webhooks are traced too. Raises MissingExtra.
    """
    require_extra(EXTRA, PURPOSE)
    if _is_off("OTEL_TRACES_EXPORTER"):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
    at_once = _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", SPANS_AT_ONCE)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), max_export_batch_size=at_once))
    service.on_ready.append(lambda is_ready: stopping.on_stopped(provider.shutdown) if is_ready else None)
    return trace_service(service, provider.get_tracer("durable_streams", version))


def trace_service(service: StreamService, tracer: Tracer) -> RequestSpans:
    """Trace with ``tracer`` what ``service`` delivers; returns what traces its requests."""
    from durable_streams.otel.deliveries import DeliverySpans
    from durable_streams.otel.spans import RecentWrites, RequestSpans

    writes = RecentWrites()
    if service.subscriptions is not None:
        service.subscriptions.surround_deliveries(DeliverySpans(tracer, writes))
    return RequestSpans(tracer, writes)


def begin_metrics(service: StreamService, metrics: Metrics, version: str) -> None:
    """Send ``metrics`` while the service is open, unless OTEL_METRICS_EXPORTER is ``none``. Raises MissingExtra."""
    require_extra(EXTRA, PURPOSE)
    if _is_off("OTEL_METRICS_EXPORTER"):
        return
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    from durable_streams.otel.measurements import MetricsExport

    interval_s = _number("OTEL_METRIC_EXPORT_INTERVAL", METRICS_INTERVAL_MS) / 1000
    export = MetricsExport(metrics.collect, OTLPMetricExporter(), _resource(version), interval_s)

    def tell(is_ready: bool) -> None:
        if is_ready:
            export.start()
            stopping.on_stopped(export.stop)

    service.on_ready.append(tell)


def _resource(version: str) -> Resource:
    from opentelemetry.sdk.resources import Resource

    # Each worker counts for itself.
    own = {"service.version": version, "service.instance.id": str(uuid.uuid4())}
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    if not named:
        own["service.name"] = "durable-streams-server"
    return Resource.create(own)


def _is_off(variable: str) -> bool:
    return os.environ.get(variable) == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"


def _number(variable: str, otherwise: int) -> int:
    return int(os.environ.get(variable) or otherwise)
