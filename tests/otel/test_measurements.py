"""Metrics by OTLP: the same numbers as on /metrics, in the bytes that a collector gets."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource

from durable_streams.metrics.collecting import Metrics
from durable_streams.otel.building import unfit_variable
from durable_streams.otel.measurements import MetricsExport
from tests.web.driving import TEXT, Server


class Kept(MetricExporter):
    """Keeps what it is to send."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[MetricsData] = []

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 0, **kwargs: Any
    ) -> MetricExportResult:
        self.sent.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float | None = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float | None = 0, **kwargs: Any) -> None:
        return None


@pytest.fixture
def collected() -> Any:
    server = Server()
    metrics = Metrics(server.service, "1", "memory")
    server.put("a", b"x", TEXT)
    for seconds in (0.0001, 0.003, 0.003, 99):
        metrics.requests.durations["read", 2].note(seconds)
    exporter = Kept()
    MetricsExport(metrics.collect, exporter, Resource({"service.name": "s"}), 60).export()
    server.close()
    (sent,) = exporter.sent
    (resource,) = encode_metrics(sent).resource_metrics
    assert [attribute.key for attribute in resource.resource.attributes] == ["service.name"]
    return {metric.name: metric for metric in resource.scope_metrics[0].metrics}


def test_counters_grow_and_gauges_are_what_is_now(collected: Any) -> None:
    created = collected["durable_streams_streams_created"].sum
    assert created.is_monotonic
    assert created.data_points[0].as_double == 1
    assert collected["durable_streams_ready"].gauge.data_points[0].as_double == 1
    (build,) = collected["durable_streams_build_info"].gauge.data_points
    assert {attribute.key: attribute.value.string_value for attribute in build.attributes} == {
        "version": "1",
        "mode": "memory",
    }


def test_histograms_have_their_buckets(collected: Any) -> None:
    found = collected["durable_streams_request_duration_seconds"]
    assert found.unit == "s"
    (point,) = found.histogram.data_points
    assert point.count == 4
    assert point.sum == pytest.approx(99.0061)
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    counted = {
        bound: count
        for bound, count in zip(point.explicit_bounds, point.bucket_counts, strict=False)
        if count
    }
    assert counted == {0.0005: 1, 0.005: 2}
    assert point.bucket_counts[-1] == 1
    assert {attribute.key for attribute in point.attributes} == {"operation", "status"}


def test_an_export_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Any:
        raise OSError("no")

    MetricsExport(fail, Kept(), Resource({}), 60).export()
    assert "metrics could not be sent" in caplog.text


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp and none"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "often", "whole number"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0", "whole number"),
    ],
)
def test_a_variable_that_cannot_be_obeyed_is_named(name: str, value: str, reason: str) -> None:
    found = unfit_variable({name: value})
    assert found is not None
    assert name in found
    assert value in found
    assert reason in found
    assert unfit_variable({name: ""}) is None
