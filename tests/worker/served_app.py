"""A small WSGI application for real gunicorn processes: echoes, waits for the stop, and notes when it is told of one.

`/wait` is a long-poll and `/events` an event stream; both end only when the worker stops. `NOTES` names a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from gevent.event import Event

from durable_streams.worker import on_drain, on_stopped
from tests.worker.in_process import echo

stopping = Event()


def note(text: str) -> None:
    with open(os.environ["NOTES"], "a", encoding="utf-8") as notes:
        notes.write(text + "\n")


def end_waits() -> None:
    note("stopping")
    stopping.set()


on_drain(end_waits)
on_stopped(lambda: note("stopped"))


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return events()
    if path == "/wait":
        stopping.wait()
        start_response("204 No Content", [])
        return []
    if path == "/refuse":
        start_response("413 Content Too Large", [])
        return [b"refused"]
    if path == "/pid":
        start_response("200 OK", [])
        return [str(os.getpid()).encode()]
    return echo(environ, start_response)


def events() -> Iterator[bytes]:
    yield b"data: begun\n\n"
    stopping.wait()
    yield b"data: ended\n\n"
