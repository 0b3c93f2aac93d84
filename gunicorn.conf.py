"""gunicorn's settings for `gunicorn -c gunicorn.conf.py wsgi:app`: those of `durable_streams.gunicorn_conf`."""

from durable_streams.serving import configure

globals().update(configure())
