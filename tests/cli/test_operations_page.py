"""docs/operations.md against the code: every exit code, every command, and no command that there is not."""

from __future__ import annotations

import re

import pytest

from durable_streams import cli
from durable_streams.cli.command import Command
from durable_streams.cli.maintenance import MAINTENANCE
from durable_streams.config import SETTINGS
from durable_streams.protocol import errors
from durable_streams.startup import ExitCode
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()


def test_the_page_says_what_to_do_about_every_exit_code_and_no_other() -> None:
    rows = re.findall(r"(?m)^\| (\d+) \| `([A-Z_]+)` \| \S.* \|$", PAGE)
    assert [(int(code), name) for code, name in rows] == [(code.value, code.name) for code in ExitCode]


@pytest.mark.parametrize("command", MAINTENANCE, ids=lambda command: str(command.name))
def test_the_page_shows_every_command_of_maintenance(command: Command) -> None:
    assert f"\ndurable-streams-server {command.name}" in PAGE


def test_every_command_that_the_page_shows_exists() -> None:
    shown = re.findall(r"durable-streams-server ([a-z]+)", PAGE)
    assert set(shown) <= {command.name for command in cli.COMMANDS}


@pytest.mark.parametrize("document", re.findall(r"\]\(([a-z-]+\.md)\)", PAGE))
def test_every_page_that_it_refers_to_exists(document: str) -> None:
    assert (ROOT / "docs" / document).is_file()


LIMITS = [
    key
    for key, declared in SETTINGS.items()
    if key.startswith(("limits.", "rates.", "quotas.", "subscriptions.max_", "storage.min_"))
    or (key.startswith("server.") and declared.unit and key != "server.sse_heartbeat_secs")
]


@pytest.mark.parametrize("key", LIMITS)
def test_the_page_says_what_a_client_sees_of_every_limit(key: str) -> None:
    section = PAGE.partition("\n## Limits\n")[2].partition("\n## ")[0]
    assert re.search(rf"(?m)^\|.*`{re.escape(key)}`.* \| \S.* \|$", section)


def test_every_code_of_that_table_exists() -> None:
    section = PAGE.partition("\n## Limits\n")[2].partition("\n## ")[0]
    known = {getattr(error, "code", "") for error in vars(errors).values()}
    assert set(re.findall(r"`([A-Z]+_[A-Z_]+)`", section)) <= known
