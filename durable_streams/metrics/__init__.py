"""Metrics for Prometheus: counted in plain integers, rendered when somebody scrapes.

No label has a value that a client can choose, so the number of series is bounded. Nothing here is imported, counted or
measured while ``metrics.enabled`` is off.
"""

from durable_streams.metrics.collecting import Metrics
from durable_streams.metrics.processes import Exposition

__all__ = ["Exposition", "Metrics"]
