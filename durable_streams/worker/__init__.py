"""The gunicorn workers of this server: `worker_class = "durable_streams.worker.StreamWorker"`, or BoundedGeventWorker.

They serve any WSGI application. Other code uses only the names of this module.
"""

from durable_streams.eventloop.stopping import on_drain, on_stopped
from durable_streams.worker.gevent_worker import BoundedGeventWorker
from durable_streams.worker.stream_worker import StreamWorker

__all__ = ["BoundedGeventWorker", "StreamWorker", "on_drain", "on_stopped"]
