"""What the server does now, in numbers: connections, readers, queues and limits, and what it has committed so far."""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import monotonic, time

from durable_streams.admin.describing import Json, timestamp
from durable_streams.eventloop.connections import connections
from durable_streams.metrics.counting import CommitCounts
from durable_streams.service import StreamService
from durable_streams.storage.abilities import Measured


class Activity:
    """Numbers of one service in this process. Counters begin with it, so two looks give a rate."""

    def __init__(
        self,
        service: StreamService,
        commits: CommitCounts | None,
        connections_max: int,
        build: Mapping[str, str],
    ) -> None:
        """``commits``: the counts of the metrics, where there are some. ``build``: what runs, as text by name."""
        self._service = service
        self._connections_max = connections_max
        self._build = build
        self._started_at, self._started = time(), monotonic()
        if commits is None:
            commits = CommitCounts(lambda: service.store.clock())
            service.store.writes.measure_commits(commits.timed)
        self._commits = commits

    def document(self) -> Json:
        """All of it as one JSON object."""
        service, store = self._service, self._service.store
        return {
            **self._build,
            "worker": os.getpid(),
            "started_at": timestamp(self._started_at),
            "uptime_secs": round(monotonic() - self._started, 3),
            "ready": service.is_ready,
            "storage_failed": store.failed,
            "storage_full": store.storage.is_full,
            "connections": {"now": connections(), "limit": self._connections_max},
            "live_readers": {**service.hub.readers, "broadcast": service.fanout.readers},
            "queues": self._queues(),
            "storage": dict(store.storage.figures()) if isinstance(store.storage, Measured) else {},
            "subscriptions": None if service.subscriptions is None else service.subscriptions.count,
            "committed": self._committed(),
        }

    def _queues(self) -> Json:
        writes = self._service.store.writes
        queues = {"pending_writes": {"now": writes.pending, "limit": writes.limits.pending_writes_max}}
        if self._service.store.storage.counts_as_memory:
            queues["memory_bytes"] = {"now": writes.budget.total, "limit": writes.limits.memory_bytes_max}
        if writes.budget.counts_streams:
            queues["streams"] = {"now": writes.budget.streams, "limit": writes.limits.streams_max}
        return queues

    def _committed(self) -> Json:
        commits = self._commits
        return {
            "changes": int(commits.sizes.sum),
            "bytes": commits.appended_bytes,
            "commits": sum(commits.durations.counts),
            "seconds": round(commits.durations.sum, 6),
            "failures": commits.failures,
            "created": commits.created,
            "deleted": commits.deleted,
            "expired": commits.expired,
        }
