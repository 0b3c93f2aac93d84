"""Metrics for Prometheus: counted in plain integers, rendered when somebody scrapes.

No label has a value that a client can choose, so the number of series is bounded. Nothing here is imported, counted or
measured while ``metrics.enabled`` is off, but for ``counting``, which needs no library and which the admin API reads.
"""
