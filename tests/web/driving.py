"""The whole application in this process: asked through WebTest, or by readers in greenlets where answers wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gevent
from flask import Flask
from gevent.queue import Queue
from webtest import TestApp, TestResponse
from werkzeug.test import EnvironBuilder

from durable_streams.app import create_app
from durable_streams.config import Config
from durable_streams.service import StreamService
from durable_streams.storage.contract import Storage
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.web.blueprint import EXTENSION, build_blueprint
from durable_streams.web.exchange import Gate, Observer
from tests.clock import Clock
from tests.event_streams import Event, EventStream

BASE = "/v1/stream/"
TEXT = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}
BYTES = {"Content-Type": "application/octet-stream"}
CLOSE = {"Stream-Closed": "true"}
START = 1_800_000_000.0
PATIENCE_S = 180.0
"""No wait of these tests is longer; none comes near it."""

Headers = dict[str, str]


class Server:
    """The application with some settings; requests name streams, not paths, unless they begin with a slash."""

    def __init__(
        self,
        storage: Storage | None = None,
        *,
        embedded: bool = False,
        gates: Sequence[Gate] = (),
        observers: Sequence[Observer] = (),
        **sections: dict[str, Any],
    ) -> None:
        """``sections`` are those of the configuration; logs are off unless ``log`` says otherwise.

        ``embedded``: as a blueprint in an app of somebody else, under the same path.
        """
        config = Config.model_validate({"log": {"rust_log": "off"}, **sections})
        self.flask = (
            _somebody_elses(config, storage)
            if embedded
            else create_app(config, storage, gates=gates, observers=observers)
        )
        self.service: StreamService = self.flask.extensions[EXTENSION]
        self.store = self.service.store
        self.clock = Clock(START)
        self.store._pipeline.clock = self.clock
        self._app = TestApp(self.flask)

    def request(
        self, method: str, target: str, body: bytes = b"", headers: Headers | None = None, **environ: Any
    ) -> TestResponse:
        """The answer, whatever its status; WebTest has checked that it is correct WSGI."""
        return self._app.request(
            path_of(target),
            method=method,
            body=body,
            headers=headers or {},
            environ=environ,
            status="*",
        )

    def put(self, target: str, body: bytes = b"", headers: Headers | None = None) -> TestResponse:
        return self.request("PUT", target, body, headers)

    def post(self, target: str, body: bytes = b"", headers: Headers | None = None) -> TestResponse:
        return self.request("POST", target, body, headers)

    def get(self, target: str, headers: Headers | None = None) -> TestResponse:
        return self.request("GET", target, headers=headers)

    def head(self, target: str) -> TestResponse:
        return self.request("HEAD", target)

    def delete(self, target: str) -> TestResponse:
        return self.request("DELETE", target)

    def tail(self, name: str) -> str:
        return str(self.head(name).headers["Stream-Next-Offset"])

    def offset(self, name: str, position: int) -> str:
        """What clients of that stream have for ``position``, which may lie beyond the tail."""
        return self.store.offset_at(self.store.find(name), position)

    def reading(self, target: str, headers: Headers | None = None, **environ: Any) -> Reader:
        """A GET in a greenlet of its own, which has got as far as it can before this returns."""
        reader = Reader(self.flask, target, headers or {}, environ)
        gevent.sleep(0)
        return reader

    def close(self) -> None:
        self.service.close()


def _somebody_elses(config: Config, storage: Storage | None) -> Flask:
    app = Flask("embedding")
    app.register_blueprint(build_blueprint(storage or InMemoryStorage(), config), url_prefix=BASE)
    return app


def path_of(target: str) -> str:
    return target if target.startswith("/") else BASE + target


class Reader:
    """One waiting GET: its status and headers as soon as they are there, its body as it grows."""

    def __init__(
        self, app: Callable[..., Iterable[bytes]], target: str, headers: Headers, environ: dict[str, Any]
    ) -> None:
        self.status = 0
        self.headers: Headers = {}
        self.stream = EventStream()
        self._app = app
        self._environ = {**EnvironBuilder(path_of(target), headers=headers).get_environ(), **environ}
        self._pieces: Queue[bytes | None] = Queue()
        self._events: list[Event] = []
        self.greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        body = self._app(self._environ, self._start)
        try:
            for piece in body:
                self._pieces.put(piece)
        finally:
            getattr(body, "close", lambda: None)()
            self._pieces.put(None)

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        self.status = int(status.split()[0])
        self.headers = {name.title(): value for name, value in headers}

    @property
    def is_waiting(self) -> bool:
        return not self.greenlet.dead

    def piece(self) -> bytes | None:
        """The next piece of the body when it comes; None at the end."""
        with gevent.Timeout(PATIENCE_S):
            return self._pieces.get()

    def rest(self) -> bytes:
        """Everything until the end."""
        pieces = []
        while (piece := self.piece()) is not None:
            pieces.append(piece)
        self.greenlet.join()
        return b"".join(pieces)

    def event(self) -> Event:
        """The next event when it comes."""
        while not self._events:
            piece = self.piece()
            assert piece is not None, "the event stream has ended"
            self._events += self.stream.feed(piece)
        return self._events.pop(0)

    def events(self) -> list[Event]:
        """All events until the end of the connection."""
        found, self._events = self._events + self.stream.feed(self.rest()), []
        return found

    def come(self) -> list[Event]:
        """The events that have come by now."""
        found, self._events = self._events, []
        while not self._pieces.empty():
            if (piece := self._pieces.get()) is None:
                break
            found += self.stream.feed(piece)
        return found

    def caught_up(self) -> list[Event]:
        """The events up to the control event that says so."""
        found = [self.event()]
        while found[-1].kind != "control" or "upToDate" not in found[-1].fields:
            found.append(self.event())
        return found

    def leave(self) -> None:
        """What a server does when its client has gone."""
        self.greenlet.kill()
