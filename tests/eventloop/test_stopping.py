"""The stop of a process: who is told, in which order, and that one failing hook stops no other."""

from __future__ import annotations

import logging

import pytest

from durable_streams.eventloop import stopping
from durable_streams.service import StreamService
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.streams.batch import Limits


@pytest.fixture(autouse=True)
def only_these_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests of this process have left open is not stopped here."""
    monkeypatch.setattr(stopping, "_on_drain", {})
    monkeypatch.setattr(stopping, "_on_stopped", {})


def test_hooks_are_called_in_the_order_of_their_coming_and_the_last_ones_last() -> None:
    called: list[str] = []
    stopping.on_stopped(lambda: called.append("storage"), last=True)
    stopping.on_stopped(lambda: called.append("first"))
    stopping.on_stopped(lambda: called.append("second"))
    stopping.on_drain(lambda: called.append("drain"))
    stopping.drain()
    assert called == ["drain"]
    stopping.finish()
    assert called == ["drain", "first", "second", "storage"]


def test_a_hook_that_fails_is_logged_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []
    stopping.on_drain(lambda: 1 / 0)
    stopping.on_drain(lambda: called.append("other"))
    with caplog.at_level(logging.ERROR):
        stopping.drain()
    assert called == ["other"]
    assert "ZeroDivisionError" in caplog.text


def test_a_hook_that_is_forgotten_is_not_called() -> None:
    called: list[str] = []

    def hook() -> None:
        called.append("hook")

    stopping.on_drain(hook)
    stopping.on_stopped(hook)
    stopping.forget(hook, print)
    stopping.drain()
    stopping.finish()
    assert called == []


def test_every_open_service_is_stopped_with_the_process_and_forgotten_when_closed() -> None:
    services = [StreamService(InMemoryStorage(), Limits()) for _ in range(2)]
    for service in services:
        service.open()
    stopping.drain()
    assert [service.is_ready for service in services] == [False, False]
    assert [service.store.is_open for service in services] == [True, True]
    stopping.finish()
    assert [service.store.is_open for service in services] == [False, False]
    assert (stopping._on_drain, stopping._on_stopped) == ({}, {})
