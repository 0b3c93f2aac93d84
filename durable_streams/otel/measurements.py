"""The metrics of ``/metrics`` as OTLP has them, sent every ``OTEL_METRIC_EXPORT_INTERVAL`` milliseconds.

What is counted is counted once, in ``metrics/``; here its families become the data of one export.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from time import time_ns
from typing import Any, Final

import gevent
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

SCOPE: Final = "durable_streams"
CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
_UNITS: Final = {"seconds": "s", "bytes": "By"}

log = logging.getLogger("durable_streams.otel")


class MetricsExport:
    """Sends what ``collect()`` gives, from a greenlet."""

    def __init__(
        self,
        collect: Callable[[], Iterable[Family]],
        exporter: MetricExporter,
        resource: Resource,
        interval_s: float,
    ) -> None:
        self._collect = collect
        self._exporter = exporter
        self._resource = resource
        self._interval_s = interval_s
        self._began_at = time_ns()
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def start(self) -> None:
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Send the last numbers; waits for the exporter's own time limit at most."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None
            self.export()

    def export(self) -> None:
        """Send the numbers as they are now; a failure is logged, by the exporter or here."""
        try:
            self._exporter.export(self._data())
        except Exception:
            log.exception("metrics could not be sent")

    def _run(self) -> None:
        while True:
            gevent.sleep(self._interval_s)
            self.export()

    def _data(self) -> MetricsData:
        now = time_ns()
        found = [metric_of(family, self._began_at, now) for family in self._collect()]
        scope = ScopeMetrics(InstrumentationScope(SCOPE), [metric for metric in found if metric], "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])


def metric_of(family: Family, began_at: int, now: int) -> Metric | None:
    """One family at the time ``now``, counted from ``began_at`` on (nanoseconds since 1970); None for an empty one."""
    if not family.samples:
        return None
    data: Sum | Gauge | Histogram
    if family.type == "histogram":
        data = Histogram(_histograms(family.samples, began_at, now), CUMULATIVE)
    else:
        points = [
            NumberDataPoint(sample.labels, began_at, now, float(sample.value))
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]
        data = Sum(points, CUMULATIVE, is_monotonic=True) if family.type == "counter" else Gauge(points)
    return Metric(family.name, family.documentation, _UNITS.get(family.name.rpartition("_")[2], ""), data)


def _histograms(samples: Sequence[Sample], began_at: int, now: int) -> list[HistogramDataPoint]:
    of_labels: dict[tuple[tuple[str, str], ...], list[Sample]] = defaultdict(list)
    for sample in samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        of_labels[tuple(labels.items())].append(sample)
    return [_histogram(dict(labels), found, began_at, now) for labels, found in of_labels.items()]


def _histogram(labels: dict[str, str], samples: list[Sample], began_at: int, now: int) -> HistogramDataPoint:
    buckets = [sample for sample in samples if sample.name.endswith("_bucket")]
    below = [int(sample.value) for sample in buckets]
    counts = [count - before for count, before in zip(below, [0, *below], strict=False)]
    bounds = [float(sample.labels["le"]) for sample in buckets[:-1]]
    total = sum(sample.value for sample in samples if sample.name.endswith("_sum"))
    unknown: Any = None
    return HistogramDataPoint(
        labels, began_at, now, sum(counts), total, counts, bounds, min=unknown, max=unknown
    )
