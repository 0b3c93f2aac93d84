"""gunicorn's settings for `gunicorn -c python:durable_streams.gunicorn_conf durable_streams.wsgi:app`.

They are made from the server's configuration. `DS_PROFILE` and `DS_CONFIG` name the files to read, as `--profile` and
`--config` of the console script do.
"""

from durable_streams.serving import configure

globals().update(configure())
