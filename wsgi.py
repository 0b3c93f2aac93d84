"""The WSGI application, for `gunicorn -c gunicorn.conf.py wsgi:app` and for any other gevent-based server."""

from durable_streams.app import create_app
from durable_streams.serving import served_config

app = create_app(served_config())
