"""Traces and metrics for OpenTelemetry, where ``otel.enabled`` is on; the variables ``OTEL_*`` say where to."""
