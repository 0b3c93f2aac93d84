"""docs/command-line.md names every command, phase, exit code and field that there is."""

from __future__ import annotations

import io
import json
import logging
from types import SimpleNamespace

import pytest

from durable_streams import cli
from durable_streams.cli.command import Command
from durable_streams.config import LogSettings
from durable_streams.startup import ExitCode, Phase
from durable_streams.telemetry import RequestLog
from durable_streams.telemetry.formats import JsonFormatter
from durable_streams.telemetry.logs import LineHandler
from durable_streams.telemetry.requests import REQUEST_TARGET
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "command-line.md").read_text()


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: str(command.name))
def test_the_page_has_each_command_with_its_summary(command: Command) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{command.name}")]
    assert len(rows) == 1
    assert command.summary in rows[0]


@pytest.mark.parametrize("phase", Phase)
def test_the_page_has_each_phase(phase: Phase) -> None:
    assert f"\n| `{phase}` |" in PAGE


@pytest.mark.parametrize("code", ExitCode)
def test_the_page_has_each_exit_code_with_its_name(code: ExitCode) -> None:
    assert f"\n| {code.value} | `{code.name}` |" in PAGE


def test_the_page_has_every_field_of_a_request() -> None:
    written = io.BytesIO()
    handler = LineHandler(written)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger(REQUEST_TARGET)
    logger.addHandler(handler)
    problem = type("Problem", (), {"type": "t", "code": "c", "detail": "d"})
    environ = {
        "PATH_INFO": "/s/a",
        "QUERY_STRING": "q",
        "HTTP_HOST": "h",
        "REMOTE_ADDR": "r",
        "HTTP_USER_AGENT": "u",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_METHOD": "GET",
    }
    subscribe = SimpleNamespace(
        environ=environ, operation="subscribe", name="a", live="sse", sent_bytes=1, end="timeout"
    )
    log = RequestLog(LogSettings(), "memory")
    try:
        log.finished(subscribe, 404, 1, problem)
        log.ended(subscribe, 1)
    finally:
        logger.removeHandler(handler)
    of_every_record = {"@timestamp", "log.level", "log.logger", "message", "ecs.version", "process.pid"}
    records = map(json.loads, written.getvalue().splitlines())
    fields = {field for record in records for field in record} - of_every_record
    assert len(fields) == 19
    assert {field for field in fields if f"`{field}`" not in PAGE} == set()
