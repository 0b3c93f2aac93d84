"""The gunicorn worker of this server: `worker_class = "durable_streams.worker.StreamWorker"`.

It serves any WSGI application. Other code uses only the names of this module.
"""

from durable_streams.eventloop.stopping import on_drain, on_stopped
from durable_streams.worker.stream_worker import StreamWorker

__all__ = ["StreamWorker", "on_drain", "on_stopped"]
