"""Readers of our own application that connect, wait and vanish: both workers notice, and nothing is left of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from flask import Flask

from durable_streams.app import create_app
from durable_streams.config import Config
from durable_streams.config.settings import ServerSettings
from tests.worker.in_process import Conversation, converse, stock_worker, stream_worker
from tests.worker.leaks import alive
from tests.worker.request_samples import get

READERS = 10_000
AT_ONCE = 500
PATIENCE_S = 1700
"""For 10,000 readers on the slowest machine: it tells a leak that never ends from one that takes long."""
FOR_EVER_S = 3600
STREAM = b"/v1/stream/quiet"

WORKERS = {"stream": stream_worker, "gevent": stock_worker}
READS = {
    "long-poll": STREAM + b"?offset=now&live=long-poll",
    "sse": STREAM + b"?offset=now&live=sse",
}


@pytest.fixture
def app() -> Iterator[Flask]:
    # Nothing but the client's leaving ends a wait.
    times = ServerSettings(long_poll_timeout_secs=FOR_EVER_S, sse_reconnect_interval_secs=0)
    app = create_app(Config(server=times))
    service = app.extensions["durable_streams"]
    service.open()
    yield app
    service.close()


@pytest.mark.timeout(PATIENCE_S + 60)
@pytest.mark.parametrize("way", READS)
@pytest.mark.parametrize("build", WORKERS.values(), ids=WORKERS)
def test_readers_that_connect_and_vanish_leave_nothing_behind(
    build: Callable[[Any], Any], way: str, app: Flask
) -> None:
    worker = build(app)
    head = b"PUT " + STREAM + b" HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    assert converse(worker, head).startswith(b"HTTP/1.1 201")
    with gevent.Timeout(PATIENCE_S):
        come_and_vanish(worker, app, way)
        before = alive()
        for _ in range(READERS // AT_ONCE):
            come_and_vanish(worker, app, way)
        assert alive() == before


def come_and_vanish(worker: Any, app: Flask, way: str) -> None:
    """As many readers as come at once wait, and their greenlets end when they go."""
    service = app.extensions["durable_streams"]
    readers = [Conversation(worker) for _ in range(AT_ONCE)]
    for reader in readers:
        reader.send(get(READS[way]))
    while service.hub.watchers < AT_ONCE:
        gevent.idle()
    for reader in readers:
        reader.sock.close()
    # Their leaving alone ends them: a wait that is not noticed lasts as long as the time limit of the test.
    gevent.joinall([reader.greenlet for reader in readers])
    assert (service.hub.watchers, service.hub._events) == (0, {})
    assert service.fanout.readers == 0
