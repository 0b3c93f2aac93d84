"""The filter language of RUST_LOG, row by row."""

from __future__ import annotations

import logging

import pytest

from durable_streams.config.log_filter import OFF, TRACE, LogFilter

REQUEST = "durable_streams.request"

# filter, target, the lowest level that is let through
ROWS = [
    ("info", REQUEST, logging.INFO),
    ("INFO", REQUEST, logging.INFO),
    ("warn", REQUEST, logging.WARNING),
    ("off", REQUEST, OFF),
    ("trace", REQUEST, TRACE),
    ("", REQUEST, logging.ERROR),
    ("warn,durable_streams=debug", REQUEST, logging.DEBUG),
    ("warn,durable_streams=debug", "gunicorn.error", logging.WARNING),
    ("durable_streams=debug", REQUEST, logging.DEBUG),
    ("durable_streams=debug", "gunicorn.error", logging.ERROR),
    ("debug,durable_streams.request=off", REQUEST, OFF),
    ("debug,durable_streams.request=off", "durable_streams.lifecycle", logging.DEBUG),
    ("durable_streams=error,durable_streams.request=info", REQUEST, logging.INFO),
    ("durable_streams.request=info,durable_streams=error", REQUEST, logging.INFO),
    ("info,durable_streams.req=off", REQUEST, logging.INFO),
    ("error, durable_streams::request = info ", REQUEST, logging.INFO),
    ("error,durable_streams_server=debug", REQUEST, logging.DEBUG),
    ("error,durable_streams_server::request=debug", REQUEST, logging.DEBUG),
    ("info,tower_http=debug", REQUEST, logging.INFO),
    ("durable_streams", REQUEST, TRACE),
    ("info,gunicorn", "gunicorn.error", TRACE),
    # A bare level is about this server; libraries are heard from warn on.
    ("debug", "gunicorn.error", logging.WARNING),
    ("error", "gunicorn.error", logging.ERROR),
    ("debug,gunicorn=info", "gunicorn.error", logging.INFO),
    ("info", "durable_streams_other", logging.WARNING),
    ("info,warn", REQUEST, logging.WARNING),
]


@pytest.mark.parametrize(("text", "target", "level"), ROWS)
def test_a_filter_lets_through_what_it_says(text: str, target: str, level: int) -> None:
    assert LogFilter.parse(text).level_for(target) == level


@pytest.mark.parametrize(
    "text",
    ["inof", "info,wran", "a=b", "=info", "durable_streams=", "[x]=info", "a[b{c=1}]=info", "info;warn"],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        LogFilter.parse(text)
