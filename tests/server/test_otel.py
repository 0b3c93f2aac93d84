"""The real server and a collector: spans and metrics arrive by OTLP, also the last ones before a stop."""

from __future__ import annotations

import gzip
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from durable_streams.startup import ExitCode
from tests.servers import GUNICORN, ROOT, running_server, server_environ

pytestmark = pytest.mark.server

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[tuple[str, str]] = []
        self.metrics: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    self.server.spans += [(span.name, span.trace_id.hex()) for span in scope.spans]
        else:
            for found in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for each in found.scope_metrics:
                    self.server.metrics |= {metric.name for metric in each.metrics}
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """The test's output is its own."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        yield collector
        collector.shutdown()


def test_a_collector_gets_spans_and_metrics_at_the_latest_with_the_stop(
    tmp_path: Path, collector: Collector
) -> None:
    settings = {
        "DS_OTEL__ENABLED": "true",
        "DS_METRICS__ENABLED": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "3600000",
    }
    with running_server(tmp_path, settings) as server:
        headers = {"Content-Type": "text/plain", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        assert server.request("PUT", "/v1/stream/a", b"x", headers).status == 201
    assert ("create", TRACE) in collector.spans
    assert "durable_streams_request_duration_seconds" in collector.metrics


def test_a_protocol_that_is_not_spoken_is_refused_at_the_start(tmp_path: Path) -> None:
    settings = {"DS_OTEL__ENABLED": "true", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "DS_SERVER__PORT": "0"}
    finished = subprocess.run(
        GUNICORN,
        cwd=ROOT,
        env=server_environ(settings, tmp_path),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert finished.returncode == ExitCode.CONFIGURATION
    (line,) = finished.stderr.splitlines()
    assert "OTEL_EXPORTER_OTLP_PROTOCOL = 'grpc'" in line
