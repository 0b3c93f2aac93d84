"""`make bench-subscriptions`: what subscriptions add to the CPU time of an append, as a table in Markdown.

In process and in memory: the cost is that of the announcement, which no storage changes. Each row is measured in
turn, round after round, and the difference to the first row is the median of the differences within a round, so a slow
minute falls on all of them.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from collections.abc import Sequence
from time import process_time_ns
from typing import Final

import gevent

from durable_streams.config.subscriptions import SubscriptionSettings
from durable_streams.protocol.requests import Append, Create
from durable_streams.protocol.state import NO_EXPIRY
from durable_streams.protocol.subscriptions.config import PULL_WAKE, SubscriptionConfig, Wanted
from durable_streams.service import StreamService
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.streams.batch import Limits
from durable_streams.subscriptions.control import Control

APPENDS: Final = 20_000
"""Of 100 bytes, in one round of one row."""
WRITERS: Final = 32
ROUNDS: Final = 9
SUBSCRIPTIONS: Final = 10_000
LINKS: Final = 100_000
MOST_US: Final = 2.0
BODY: Final = b"x" * 100
STREAM: Final = "orders/1"
ROOT: Final = "http://127.0.0.1:4437/v1/stream"


class Row:
    """One store with its subscriptions, and the stream that is appended to."""

    def __init__(self, title: str, *, enabled: bool = True) -> None:
        self.title = title
        self.service = StreamService(
            InMemoryStorage(),
            Limits(),
            SubscriptionSettings(enabled=enabled, max_subscriptions=2 * SUBSCRIPTIONS),
        )
        self.service.open()
        self.costs_us: list[float] = []
        self.added_us = 0.0
        for name, media_type in ((STREAM, "text/plain"), ("wake/pool", "application/json")):
            self.service.store.create(Create(name, media_type, NO_EXPIRY, False, b""))

    def subscribe(self, count: int, *, links: int = 0, patterns: bool = False) -> Row:
        """``count`` pull-wake subscriptions, together with ``links`` explicit links, or with a pattern each."""
        for number in range(count):
            each = links // count
            streams = tuple(f"orders/{number}-{link}" for link in range(each))
            pattern = f"customers/{number}/*" if patterns else None
            self.put(
                f"sub-{number}", SubscriptionConfig(PULL_WAKE, pattern, streams, wake_stream="wake/pool")
            )
        return self

    def watch(self) -> Row:
        """One more subscription, to the stream that is appended to, whose wake a worker holds."""
        self.put("watcher", SubscriptionConfig(PULL_WAKE, None, (STREAM,), wake_stream="wake/pool"))
        self.service.store.append(Append(STREAM, "text/plain", BODY))
        self.control.claim("watcher", "worker")
        return self

    @property
    def control(self) -> Control:
        assert self.service.subscriptions is not None
        return self.service.subscriptions.control

    def put(self, name: str, config: SubscriptionConfig) -> None:
        self.control.put(name, Wanted(config), ROOT)

    def measure(self) -> None:
        """CPU microseconds of this process for an append, with all that follows from it."""
        gc.collect()
        gc.disable()
        before = process_time_ns()
        gevent.joinall([gevent.spawn(self._write, APPENDS // WRITERS) for _ in range(WRITERS)])
        self.costs_us.append((process_time_ns() - before) / 1000 / APPENDS)
        gc.enable()

    def _write(self, appends: int) -> None:
        store = self.service.store
        for _ in range(appends):
            store.append(Append(STREAM, "text/plain", BODY))


def build_rows() -> list[Row]:
    """The first is what the others are compared with."""
    return [
        Row("subscriptions switched off", enabled=False),
        Row("none"),
        Row(f"{SUBSCRIPTIONS:,} with {LINKS:,} links, none to this stream").subscribe(
            SUBSCRIPTIONS, links=LINKS
        ),
        Row(f"{SUBSCRIPTIONS:,} with a pattern each, none for this stream").subscribe(
            SUBSCRIPTIONS, patterns=True
        ),
        Row(f"{SUBSCRIPTIONS:,} with {LINKS:,} links, and one to this stream, its wake held by a worker")
        .subscribe(SUBSCRIPTIONS, links=LINKS)
        .watch(),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 1 when a subscription that does not watch the stream costs more than MOST_US."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.subscriptions", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each row is measured")
    rounds = parser.parse_args(arguments).rounds
    rows = build_rows()
    gc.freeze()
    for number in range(rounds + 1):
        for row in rows if number % 2 else reversed(rows):
            row.measure()
    for row in rows:
        row.service.close()
    print("| subscriptions | CPU us an append | added |", "| --- | ---: | ---: |", sep="\n")
    for row in rows:
        # The first round warms up.
        added = [cost - first for cost, first in zip(row.costs_us, rows[0].costs_us, strict=True)][1:]
        print(
            f"| {row.title} | {statistics.median(row.costs_us[1:]):.1f} | {statistics.median(added):+.2f} |"
        )
        row.added_us = statistics.median(added)
    unwatched = max(row.added_us for row in rows[:-1])
    print(
        f"\nAt most {MOST_US} us are added where nobody watches: {'reached' if unwatched <= MOST_US else 'missed'}."
    )
    return int(unwatched > MOST_US)


if __name__ == "__main__":
    sys.exit(main())
