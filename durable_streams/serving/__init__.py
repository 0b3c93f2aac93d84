"""gunicorn as this server runs it, for `gunicorn -c gunicorn.conf.py` and for the console script alike.

What a request means is decided elsewhere; the application is made in the worker process, after gevent has
patched the standard library. Importing this raises MissingExtra where gunicorn is not installed.
"""

from durable_streams.extras import require_extra

require_extra("server", "serving")

from durable_streams.serving.application import ServerApplication  # noqa: E402
from durable_streams.serving.gunicorn_settings import configure, served_config  # noqa: E402

__all__ = ["ServerApplication", "configure", "served_config"]
