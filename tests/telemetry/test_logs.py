"""Installing the log of a server process: what is heard, in which form, and that it can be taken back."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable

import pytest

from durable_streams.config import LogFilter
from durable_streams.telemetry.formats import JsonFormatter, TextFormatter
from durable_streams.telemetry.logs import LineHandler, remove_logging
from durable_streams.telemetry.output import PlainOutput
from tests.telemetry.conftest import CapturedLog

Install = Callable[..., CapturedLog]
TARGETS = (
    "durable_streams.request",
    "durable_streams.lifecycle",
    "durable_streams",
    "gunicorn.error",
    "flask",
)
FILTERS = (
    "info",
    "off",
    "debug,durable_streams.request=off",
    "warn,gunicorn=debug",
    "durable_streams=debug,durable_streams.lifecycle=error",
    "trace",
)


@pytest.mark.parametrize("rust_log", FILTERS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("level", [5, 10, 20, 30, 40])
def test_a_record_is_written_exactly_when_the_filter_says_so(
    install: Install, rust_log: str, target: str, level: int
) -> None:
    log = install(rust_log=rust_log)
    logging.getLogger(target).log(level, "heard")
    assert bool(log.lines) == (level >= LogFilter.parse(rust_log).level_for(target))


def test_installing_again_replaces_handler_and_levels(install: Install) -> None:
    first = install(rust_log="off,durable_streams.request=info")
    second = install(rust_log="warn")
    logging.getLogger("durable_streams.request").info("not heard")
    logging.getLogger("durable_streams.request").warning("heard once")
    assert (len(first.lines), len(second.lines)) == (0, 1)


def test_removing_leaves_the_levels_that_were_there(install: Install) -> None:
    before = [logging.getLogger(target).level for target in ("", *TARGETS)]
    install(rust_log="trace,gunicorn.error=off,flask=debug")
    remove_logging()
    assert [logging.getLogger(target).level for target in ("", *TARGETS)] == before
    assert not [handler for handler in logging.getLogger().handlers if isinstance(handler, LineHandler)]


def test_messages_of_libraries_take_the_same_form(install: Install) -> None:
    log = install(format="json")
    logging.getLogger("gunicorn.error").warning("worker %d is gone", 7)
    assert log.objects[0]["message"] == "worker 7 is gone"
    assert log.objects[0]["log.logger"] == "gunicorn.error"


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_text_that_is_no_utf8_is_still_written(formatter: logging.Formatter) -> None:
    # Past pytest's own capturing, which could not hand such a text from one process to another.
    written = io.BytesIO()
    handler = LineHandler(PlainOutput(written))
    handler.setFormatter(formatter)
    handler.handle(logging.LogRecord("x", logging.WARNING, "", 0, "a surrogate \udc80", (), None))
    assert rb"a surrogate \udc80" in written.getvalue()
