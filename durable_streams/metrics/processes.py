"""One scrape for all workers: each writes its numbers to a shared folder, and the one that is asked adds them up.

The files are those of prometheus_client's multi-process mode, which merges them. The counters of a worker that has
ended stay; its gauges are removed by the master.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import gevent
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Sample

from durable_streams.metrics.collecting import Metrics
from durable_streams.metrics.families import PREFIX

SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable, prometheus_client's own, that names the folder; unset where there is one process."""
_ONE_FOR_ALL: Final = {
    "build_info": "livemax",
    "ready": "livemin",
    "storage_failed": "livemax",
    "streams": "livemax",
    "database_bytes": "livemax",
    "subscriptions": "livemax",
    "subscriptions_pending": "livemax",
    "subscriptions_failing": "livemax",
    "subscription_pending_streams": "livemax",
    "subscription_lag_seconds": "livemax",
    "process_start_time_seconds": "livemin",
    "certificate_expires_timestamp_seconds": "livemin",
}
"""Gauges that are no sum over workers, because each worker sees the same, or one alone tells. ``ready`` is 0 if it is
so of one worker."""


class Exposition:
    """Renders the metrics of this process, or of all that share its folder."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._folder = os.environ.get(SHARED_FOLDER)
        self._files: dict[str, MmapedDict] = {}
        if self._folder:
            metrics.each_round.append(self.publish)
            metrics.at_stop.append(self._close)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The text, and its content type: OpenMetrics or the older format, by the header ``Accept``."""
        encode, content_type = choose_encoder(accept)
        # Thousands of lines take longer than the loop may be held, so a native thread writes them.
        in_thread = gevent.get_hub().threadpool.apply
        if not self._folder:
            return in_thread(encode, (_Collected(list(self._metrics.collect())),)), content_type
        self.publish()
        return in_thread(encode, (MultiProcessCollector(None, self._folder),)), content_type

    def publish(self) -> None:
        """Write the numbers of this process where the other workers find them."""
        for family in self._metrics.collect():
            file = self._file(_kind(family))
            for sample in _apart(family):
                labels = sample.labels
                key = mmap_key(
                    family.name, sample.name, list(labels), list(labels.values()), family.documentation
                )
                file.write_value(key, sample.value, 0.0)

    def _close(self) -> None:
        """The last that a worker writes, but for scrapes while it stops."""
        self.publish()
        while self._files:
            self._files.popitem()[1].close()

    def _file(self, kind: str) -> MmapedDict:
        # Opened here, not before: a worker is forked, and the files are its own by its process id.
        if kind not in self._files:
            assert self._folder
            self._files[kind] = _made_whole(Path(self._folder, f"{kind}_{os.getpid()}.db"))
        return self._files[kind]


def _made_whole(path: Path) -> MmapedDict:
    """The file, which gets its name when it has its first bytes: a scrape by another worker fails at an empty one."""
    unnamed = path.with_suffix(".new")
    file = MmapedDict(str(unnamed))
    unnamed.rename(path)
    return file


class _Collected:
    """Families that were collected before, for an encoder."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _kind(family: Metric) -> str:
    """How the file that holds a family is named: its type, and for a gauge how workers' values are merged."""
    if family.type != "gauge":
        return str(family.type)
    return "gauge_" + _ONE_FOR_ALL.get(family.name.removeprefix(PREFIX), "livesum")


def _apart(family: Metric) -> Iterator[Sample]:
    """The samples as the files hold them: a bucket without those below it, and no count, which follows from them."""
    below = 0.0
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            yield sample._replace(value=sample.value - below)
            below = sample.value
        elif sample.name.endswith("_count") and family.type == "histogram":
            below = 0.0
        else:
            yield sample
