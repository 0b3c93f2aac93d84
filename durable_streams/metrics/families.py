"""Plain numbers as the metric families of prometheus_client."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, TypeVar

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from durable_streams.metrics.counting import Histogram

PREFIX: Final = "durable_streams_"
T = TypeVar("T")
Labelled = Iterable[tuple[Sequence[str], T]]
"""Values, each behind those of its labels."""


def counter(name: str, text: str, value: float) -> Metric:
    """A counter without labels; ``_total`` is added to its name."""
    return CounterMetricFamily(PREFIX + name, text, value=value)


def counters(name: str, text: str, labels: Sequence[str], values: Labelled[float]) -> Metric:
    """A counter for each combination of labels."""
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def gauges(name: str, text: str, labels: Sequence[str], values: Labelled[float]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def histogram(name: str, text: str, found: Histogram) -> Metric:
    return histograms(name, text, (), [((), found)])


def histograms(name: str, text: str, labels: Sequence[str], found: Labelled[Histogram]) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text, labels=labels)
    for label_values, each in found:
        bounds = [*map(floatToGoString, each.bounds), "+Inf"]
        # Copied first: what is counted meanwhile must not stand in one bucket and be missing in the next.
        buckets = list(zip(bounds, accumulate(list(each.counts)), strict=True))
        family.add_metric(label_values, buckets, each.sum)
    return family
