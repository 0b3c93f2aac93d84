"""An app under a WSGI server that cannot serve streams: said once, at ERROR, and not to those who test the app."""

from __future__ import annotations

import logging
from typing import Any

import gevent
import pytest
from flask import Flask
from webtest import TestApp

from durable_streams import Config, InMemoryStorage, build_blueprint
from durable_streams.eventloop.server_check import NO_GREENLETS, SEVERAL_PROCESSES
from durable_streams.storage.abilities import Shared

SERVER = {"SERVER_SOFTWARE": "theirs/1.0"}


class SharedStorage(InMemoryStorage):
    """Of which several processes could have the same streams."""

    def relay(self) -> Any:
        raise NotImplementedError


def errors(caplog: pytest.LogCaptureFixture, storage: InMemoryStorage, environ: dict[str, Any]) -> list[str]:
    """What three requests of a server with ``environ`` make the app log."""
    blueprint = build_blueprint(storage, Config.model_validate({"log": {"rust_log": "off"}}))
    app = Flask("theirs")
    app.register_blueprint(blueprint, url_prefix="/streams")
    client = TestApp(app, extra_environ=environ)
    for _ in range(3):
        client.get("/streams/missing", expect_errors=True)
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


# environ, whether requests run in greenlets, what is logged
CASES = [
    ({}, False, []),
    (SERVER, True, []),
    (SERVER, False, [NO_GREENLETS]),
    (SERVER | {"wsgi.multiprocess": True}, True, [SEVERAL_PROCESSES]),
    (SERVER | {"wsgi.multiprocess": True}, False, [SEVERAL_PROCESSES, NO_GREENLETS]),
]


@pytest.mark.parametrize(("environ", "in_greenlets", "expected"), CASES)
def test_what_does_not_fit_is_said_once(
    environ: dict[str, Any], in_greenlets: bool, expected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    if in_greenlets:
        found = gevent.spawn(errors, caplog, InMemoryStorage(), environ).get()
    else:
        found = errors(caplog, InMemoryStorage(), environ)
    assert found == expected


def test_several_processes_may_share_a_storage_that_is_shared(caplog: pytest.LogCaptureFixture) -> None:
    storage = SharedStorage()
    assert isinstance(storage, Shared)
    # Not opened: whether it could be is not what this is about.
    environ = SERVER | {"wsgi.multiprocess": True}
    assert SEVERAL_PROCESSES not in gevent.spawn(errors, caplog, storage, environ).get()
