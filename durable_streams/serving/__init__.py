"""gunicorn as this server runs it, for `gunicorn -c gunicorn.conf.py` and for the console script alike.

What a request means is decided elsewhere; the application is made in the worker process, after gevent has
patched the standard library.
"""

from durable_streams.serving.application import ServerApplication
from durable_streams.serving.gunicorn_settings import configure, served_config

__all__ = ["ServerApplication", "configure", "served_config"]
