"""gunicorn's settings for `gunicorn -c gunicorn.conf.py wsgi:app`, taken from the server's own configuration.

`DS_PROFILE` and `DS_CONFIG` say which files are read, as `--profile` and `--config` of the console script do.
"""

from durable_streams.serving import configure

globals().update(configure())
