"""What a server prints at /metrics, read back by prometheus_client's own parsers."""

from __future__ import annotations

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from tests.servers import ROOT
from tests.web.driving import Server

MONITORING = ROOT / "docs" / "monitoring"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def families(server: Server) -> dict[str, Metric]:
    """By name, as OpenMetrics; the parser has checked the order, the types and the end."""
    response = server.get("/metrics", {"Accept": OPEN_METRICS})
    assert response.status_int == 200
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    return {family.name: family for family in open_metrics(response.text)}


def samples_of(text: str) -> Samples:
    """The samples of the text format by name and sorted labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in plain_text(text)
        for sample in family.samples
    }


def samples(server: Server) -> Samples:
    return samples_of(server.get("/metrics").text)


def value(found: Samples, name: str, **labels: str) -> float:
    """One sample; 0 for a series that has not begun."""
    return found.get((f"durable_streams_{name}", tuple(sorted(labels.items()))), 0.0)
