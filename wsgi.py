"""The WSGI application, for `gunicorn -c gunicorn.conf.py wsgi:app`."""

from durable_streams.wsgi import app

__all__ = ["app"]
