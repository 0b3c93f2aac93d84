"""The servers of tests/web, with a clock for the rates."""

from __future__ import annotations

import time

import pytest

from tests.clock import Clock
from tests.web.conftest import open_server

__all__ = ["open_server"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the rates, at the beginning of a day."""
    clock = Clock(86_400.0 * 20_000)
    monkeypatch.setattr(time, "time", clock)
    return clock
