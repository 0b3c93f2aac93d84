"""The records of a server's own life."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest

from durable_streams.storage.modes import MODES, Mode
from durable_streams.telemetry import announce_listening, announce_stopped, announce_stopping
from durable_streams.telemetry.lifecycle import announce_refusal
from tests.telemetry.conftest import CapturedLog

Install = Callable[..., CapturedLog]


@pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: str(mode.name))
def test_the_line_of_listening_says_where_what_and_how_safe(install: Install, mode: Mode) -> None:
    log = install()
    announce_listening(["http://127.0.0.1:4437"], mode, 81)
    (line,) = log.lines
    assert line.endswith(" process.pid=81")
    assert f"listening on http://127.0.0.1:4437, storage {mode.name}: {mode.guarantee}" in line


def test_a_stop_is_logged_when_it_begins_and_when_it_has_ended(install: Install) -> None:
    log = install(format="json")
    announce_stopping("SIGTERM")
    announce_stopped()
    assert [found["message"] for found in log.objects] == ["stopping: SIGTERM", "stopped"]
    assert {found["log.logger"] for found in log.objects} == {"durable_streams.lifecycle"}


def test_a_refusal_carries_its_phase_as_text_and_as_json(install: Install) -> None:
    install(rust_log="off")
    text, machine = io.BytesIO(), io.BytesIO()
    announce_refusal("bind_listener", "no\nport", log_format="text", stream=text)
    announce_refusal("bind_listener", "no\nport", log_format="json", stream=machine)
    line = text.getvalue().decode()
    assert line.endswith("[bind_listener] no\\nport startup_phase=bind_listener\n")
    assert line.count("\n") == 1
    found = json.loads(machine.getvalue())
    assert (found["startup_phase"], found["log.level"]) == ("bind_listener", "error")
