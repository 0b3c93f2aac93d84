"""A record is one line, whatever a stranger put into it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable

import pytest

from durable_streams.config import LogSettings
from durable_streams.telemetry import RequestLog
from durable_streams.telemetry.formats import JsonFormatter, TextFormatter, text_value, timestamp
from tests.telemetry.conftest import CapturedLog, exchange

Install = Callable[..., CapturedLog]

ATTACKS = [
    "line\nbreak",
    "carriage\rreturn",
    "next\x85line",
    "line\u2028separator",
    "paragraph\u2029separator",
    "form\x0cfeed",
    "escape\x1b[2J",
    "right-to-left\u202eoverride",
    "nul\x00",
    "a surrogate \udc80",
    'quote" ds.operation=delete',
    "back\\slash\\n",
    "a=b c=d",
    "2026-11-23T10:00:00.000Z  INFO durable_streams.request: request completed",
]


def a_record(message: str, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("durable_streams.x", logging.INFO, "", 0, message, (), None)
    record.created = 1_795_428_000.0625
    record.fields = fields
    return record


def test_a_text_line_is_time_level_target_message_and_fields() -> None:
    line = TextFormatter().format(a_record("all well", **{"ds.operation": "append", "n": 3, "q": "a b"}))
    assert line == (
        '2026-11-23T10:00:00.062Z  INFO durable_streams.x: all well ds.operation=append n=3 q="a b"'
    )


def test_a_json_line_is_one_object_with_dotted_names() -> None:
    line = JsonFormatter().format(a_record("all well", **{"ds.operation": "append", "n": 3}))
    found = json.loads(line)
    assert found["@timestamp"] == "2026-11-23T10:00:00.062Z"
    assert (found["ds.operation"], found["n"], found["message"]) == ("append", 3, "all well")


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_neither_message_nor_field_can_forge_a_line(formatter: logging.Formatter, attack: str) -> None:
    line = formatter.format(a_record(attack, **{"ds.stream_id": attack}))
    assert line.isprintable()
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_field_cannot_end_early_and_pass_for_another(attack: str) -> None:
    text = text_value(attack)
    assert text.startswith('"')
    assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', text)


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if "\udc80" not in attack])
def test_a_hostile_user_agent_and_stream_name_stay_in_their_line(install: Install, attack: str) -> None:
    log = install()
    hostile = attack.encode().decode("latin-1")
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": f"/v1/stream/{hostile}", "HTTP_USER_AGENT": hostile}
    read = exchange(environ, operation="read", name=attack, live=None)
    RequestLog(LogSettings(), "memory").finished(read, 200, 1, None)
    (line,) = log.lines
    assert re.match(r"\S+Z  INFO durable_streams\.request: request completed ds\.operation=read ", line)


def test_json_keeps_the_exact_value_of_a_field() -> None:
    for attack in ATTACKS:
        assert json.loads(JsonFormatter().format(a_record("m", x=attack)))["x"] == attack


def test_the_lines_of_a_trace_cannot_pass_for_records() -> None:
    try:
        raise ValueError("first\n2026-11-23T10:00:00.000Z  INFO forged: line\x1b[2J")
    except ValueError as exc:
        record = logging.LogRecord(
            "durable_streams.x", logging.ERROR, "", 0, "failed", (), (type(exc), exc, exc.__traceback__)
        )
    first, *rest = TextFormatter().format(record).split("\n")
    assert first.endswith("durable_streams.x: failed")
    assert len(rest) > 3
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)


def test_json_carries_the_trace_in_fields() -> None:
    try:
        raise ValueError("broken")
    except ValueError as exc:
        record = logging.LogRecord(
            "x", logging.ERROR, "", 0, "failed", (), (type(exc), exc, exc.__traceback__)
        )
    found = json.loads(JsonFormatter().format(record))
    assert (found["error.type"], found["error.message"]) == ("ValueError", "broken")
    assert "Traceback" in found["error.stack_trace"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "1970-01-01T00:00:00.000Z"), (1.9999, "1970-01-01T00:00:01.999Z")],
)
def test_a_time_is_cut_to_milliseconds_not_rounded_into_the_next_second(seconds: float, text: str) -> None:
    assert timestamp(seconds) == text
