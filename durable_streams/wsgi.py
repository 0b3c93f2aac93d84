"""The WSGI application as `durable_streams.wsgi:app`, for gunicorn and for any other gevent-based server."""

from durable_streams.app import create_app
from durable_streams.serving import served_config

app = create_app(served_config())
