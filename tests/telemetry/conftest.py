"""A log of its own for a test: installed as a server would, written to memory, taken back at the end."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from durable_streams.config import LogSettings
from durable_streams.telemetry.logs import install_logging, remove_logging


def exchange(environ: dict[str, str], **changes: Any) -> Any:
    """What the log sees of a request: an event stream of a reader, unless ``changes`` say otherwise."""
    facts = {"operation": "subscribe", "name": "orders/2026/eu", "live": "sse", "sent_bytes": 0, "end": None}
    return SimpleNamespace(environ=environ, **(facts | changes))


class CapturedLog:
    """What was logged, as lines or as the objects that they hold."""

    def __init__(self) -> None:
        self.stream = io.BytesIO()

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().decode().splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., CapturedLog]]:
    """A function that installs logging with the given settings and gives the log back."""
    # gunicorn's Logger, made by a test of the worker in this process, lets nothing go on to the root.
    for name in ("gunicorn.error", "gunicorn.access"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)

    def install_captured(**settings: Any) -> CapturedLog:
        log = CapturedLog()
        install_logging(LogSettings(**settings), log.stream)
        return log

    yield install_captured
    remove_logging()
