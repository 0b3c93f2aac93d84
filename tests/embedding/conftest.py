"""A Flask app with streams in it, asked through Python and through HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from webtest import TestApp

from durable_streams import Config, InMemoryStorage, Streams, build_blueprint


class Embedded:
    """The app, its streams for Python, and a client of its HTTP side."""

    def __init__(self, **sections: dict[str, Any]) -> None:
        config = Config.model_validate({"log": {"rust_log": "off"}, **sections})
        blueprint = build_blueprint(InMemoryStorage(), config)
        self.app = Flask("theirs")
        self.app.register_blueprint(blueprint, url_prefix="/streams")
        self.streams: Streams = blueprint.streams
        self.http = TestApp(self.app)


@pytest.fixture
def embedded() -> Iterator[Embedded]:
    found = Embedded()
    yield found
    found.streams.stop()
