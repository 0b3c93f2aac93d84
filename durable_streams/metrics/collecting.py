"""All metrics of one process: what is counted as it happens, and what is asked for at the scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric

from durable_streams.metrics.certificate import CERTIFICATE_END
from durable_streams.metrics.counting import CommitCounts, RequestCounts, SyncTimes, WakeCounts
from durable_streams.metrics.families import counter, counters, gauge, gauges, histogram, histograms
from durable_streams.metrics.sampling import LoopSampler
from durable_streams.service import StreamService
from durable_streams.storage.abilities import FIGURES, Measured

Source = Callable[[], Iterable[Metric]]
"""Gives the newest families of one subject."""


class Metrics:
    """Counts one service from its making on; ``collect`` gives all families, as a collector of prometheus_client."""

    def __init__(self, service: StreamService, version: str, mode: str) -> None:
        """``version`` and ``mode`` label the build."""
        self.requests = RequestCounts()
        """To be one of the observers of the application."""
        self.each_round: list[Callable[[], None]] = []
        """Called every second while the service is open."""
        self.at_stop: list[Callable[[], None]] = []
        """Called when a stop has begun."""
        self._service = service
        self._build = version, mode
        self._wakes = WakeCounts()
        self.commits = CommitCounts(lambda: service.store.clock())
        """What batches hold; the admin API tells some of it too."""
        self._syncs = SyncTimes()
        self._sampler = LoopSampler(self._round)
        self.sources: list[Source] = [
            self._of_requests,
            self._of_live_reads,
            self._of_commits,
            self._of_streams,
            self._of_limits,
            self._of_storage,
            self._of_subscriptions,
            self._of_process,
        ]
        """What is built on the service adds its own."""
        self._attach()

    def _attach(self) -> None:
        service, storage = self._service, self._service.store.storage
        service.listeners.append(self._wakes)
        service.store.writes.measure_commits(self.commits.timed)
        if isinstance(storage, Measured):
            storage.measure_syncs(self._syncs.note)
        service.on_ready.append(lambda is_ready: self._sampler.start() if is_ready else self._stop())

    def _round(self) -> None:
        self._syncs.count()
        for step in self.each_round:
            step()

    def _stop(self) -> None:
        self._sampler.stop()
        for step in self.at_stop:
            step()

    def collect(self) -> Iterator[Metric]:
        for source in self.sources:
            yield from source()

    # -- subjects ------------------------------------------------------------------------------------------------

    def _of_requests(self) -> Iterator[Metric]:
        requests = self.requests
        yield histograms(
            "request_duration_seconds",
            "Time to the end of a response, or to the beginning of an event stream; long-polls wait in it.",
            ("operation", "status"),
            [((operation, f"{digit}xx"), found) for (operation, digit), found in requests.durations.items()],
        )
        yield counters(
            "errors",
            "Responses that report an error, by its code; those of a limit show how often it was reached.",
            ("code",),
            [((code,), count) for code, count in requests.errors.items()],
        )

    def _of_live_reads(self) -> Iterator[Metric]:
        service, requests = self._service, self.requests
        yield gauges(
            "live_readers",
            "Readers that wait at a stream now.",
            ("kind",),
            [((kind,), count) for kind, count in service.hub.readers.items()],
        )
        yield gauge(
            "broadcast_readers",
            "Event streams that are caught up and written to by the broadcaster now.",
            service.fanout.readers,
        )
        yield counters(
            "live_reads",
            "Live reads that have ended, by kind and reason.",
            ("kind", "end"),
            requests.live_ends.items(),
        )
        yield counters(
            "live_sent_bytes",
            "Bytes sent to live readers whose read has ended.",
            ("kind",),
            [((kind,), count) for kind, count in requests.live_bytes.items()],
        )
        yield counter("wakes", "Changes of streams that readers were told of.", self._wakes.wakes)

    def _of_commits(self) -> Iterator[Metric]:
        commits = self.commits
        self._syncs.count()
        yield histogram(
            "commit_duration_seconds",
            "Time of a commit of the storage, its sync included.",
            commits.durations,
        )
        yield histogram("commit_changes", "Changes in one commit; each append is one.", commits.sizes)
        yield counter("commit_failures", "Commits that the storage refused or failed at.", commits.failures)
        yield counter("appended_bytes", "Payload bytes that were committed.", commits.appended_bytes)
        yield histogram("sync_duration_seconds", "Time of a sync of a file.", self._syncs.durations)

    def _of_streams(self) -> Iterator[Metric]:
        commits = self.commits
        yield counter("streams_created", "Streams that were created, forks included.", commits.created)
        yield counters(
            "streams_removed",
            "Streams that have gone, because a client deleted them or because they expired.",
            ("reason",),
            [(("deleted",), commits.deleted), (("expired",), commits.expired)],
        )

    def _of_limits(self) -> Iterator[Metric]:
        store, writes = self._service.store, self._service.store.writes
        yield gauge("pending_writes", "Writes that wait for the storage.", writes.pending)
        yield gauge(
            "pending_writes_limit", "The setting limits.max_pending_writes.", writes.limits.pending_writes_max
        )
        if store.storage.counts_as_memory:
            yield gauge("memory_bytes", "Payload, and what is remembered of streams.", writes.budget.total)
            yield gauge(
                "memory_limit_bytes", "The setting limits.max_memory_bytes.", writes.limits.memory_bytes_max
            )

    def _of_storage(self) -> Iterator[Metric]:
        service = self._service
        yield gauge("ready", "Whether requests can be answered.", service.is_ready)
        yield gauge("storage_failed", "Whether a part of the storage takes no writes.", service.store.failed)
        storage = service.store.storage
        if isinstance(storage, Measured) and service.store.is_open:
            for name, value in storage.figures().items():
                figure = FIGURES[name]
                yield (counter if figure.only_grows else gauge)(name, figure.text, value)

    def _of_subscriptions(self) -> Iterator[Metric]:
        subscriptions = self._service.subscriptions
        if subscriptions is None:
            return
        counts, backlog = subscriptions.counts, subscriptions.backlog()
        yield gauge("subscriptions", "Subscriptions.", backlog.subscriptions)
        yield gauge(
            "subscriptions_pending", "Subscriptions with something that was not acked.", backlog.pending
        )
        yield gauge(
            "subscriptions_failing",
            "Subscriptions whose delivery has failed and is repeated.",
            backlog.failing,
        )
        yield gauge(
            "subscription_pending_streams",
            "Links with something that was not acked.",
            backlog.pending_streams,
        )
        yield gauge(
            "subscription_lag_seconds",
            "How long the subscription that has waited longest has been pending without a break.",
            backlog.lag_s,
        )
        for name, text, values in (
            ("deliveries", "Wakes that were sent to a receiver or to a wake stream.", counts.attempts),
            ("delivery_failures", "Deliveries that have failed.", counts.failures),
        ):
            yield counters(name, text, ("type",), [((kind,), count) for kind, count in values.items()])
        yield counter("dead_letters", "Wakes that went to the dead letters.", counts.dead_letters)
        yield counter("expired_leases", "Leases that ended without an ack.", counts.expired_leases)

    def _of_process(self) -> Iterator[Metric]:
        yield gauges(
            "build_info", "Always 1; the labels say what runs.", ("version", "mode"), [(self._build, 1)]
        )
        yield histogram(
            "loop_lag_seconds",
            "How late the event loop comes to a timer, ten times a second.",
            self._sampler.lag,
        )
        yield gauge(
            "certificate_expires_timestamp_seconds",
            "When the certificate expires, in seconds since 1970; infinite without TLS.",
            CERTIFICATE_END.at,
        )
        yield from ProcessCollector(registry=None).collect()
