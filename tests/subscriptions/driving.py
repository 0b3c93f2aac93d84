"""The whole application in this process with subscriptions: asked over WSGI, its dispatcher run by the event loop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import gevent
from webtest import TestResponse

from durable_streams.storage.contract import Storage
from durable_streams.subscriptions.dispatching.dispatcher import Dispatcher
from durable_streams.subscriptions.registry import Registry
from durable_streams.subscriptions.service import SubscriptionService
from durable_streams.subscriptions.tracked import Tracked
from tests.subscriptions.receiver import Delivery, Receiver
from tests.web.driving import JSON, Server

PATIENCE_S = 180.0
"""No wait of these tests is longer; none comes near it."""
SUBSCRIPTIONS = "__ds/subscriptions"
ORIGIN = "http://localhost:80"
T = TypeVar("T")


def until(look: Callable[[], T | None], what: str = "it") -> T:
    """What ``look`` finds in the end; meanwhile the event loop runs."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        gevent.sleep(0.002)
    raise AssertionError(f"{what} did not happen")


class Clock:
    """The clock of leases and retries. It passes by itself, and jumps when a test says so."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Subscribed(Server):
    """A server with subscriptions that are open to this machine."""

    def __init__(self, storage: Storage | None = None, **sections: Any) -> None:
        """The arguments are those of ``Server``."""
        asked = {"allow_localhost_webhooks": True, "allow_open_claims": True}
        sections["subscriptions"] = asked | sections.get("subscriptions", {})
        super().__init__(storage, **sections)
        self.store._pipeline.clock = time.time
        self.leases = Clock()
        self.registry.clock = self.leases

    @property
    def subscriptions(self) -> SubscriptionService:
        assert self.service.subscriptions is not None
        return self.service.subscriptions

    @property
    def registry(self) -> Registry:
        return self.subscriptions._registry

    @property
    def dispatcher(self) -> Dispatcher:
        return self.subscriptions._dispatcher

    def advance(self, seconds: float) -> None:
        """Let time pass for leases and retries."""
        self.leases.ahead += seconds
        self.dispatcher._event.set()

    def settle(self) -> None:
        """Let everything happen that is due, and come to rest."""
        self.service.open()
        until(self.dispatcher.loaded.is_set, "loading")
        until(self._is_at_rest, "rest")

    def _is_at_rest(self) -> bool:
        next_at = self.dispatcher._timers.next_at
        return self.dispatcher.is_at_rest and (next_at is None or next_at > self.registry.clock())

    # -- streams -----------------------------------------------------------------------------------------------

    def create(self, path: str, message: object = None, **headers: str) -> str:
        """A JSON stream, with a first message or none; gives back its tail."""
        body = b"" if message is None else json.dumps(message).encode()
        response = self.put(quote(path), body, JSON | headers)
        assert response.status_int in (200, 201), response
        return str(response.headers["Stream-Next-Offset"])

    def append(self, path: str, message: object = "x") -> str:
        response = self.post(quote(path), json.dumps(message).encode(), JSON)
        assert response.status_int == 204, response
        return str(response.headers["Stream-Next-Offset"])

    def messages(self, path: str) -> Any:
        return self.get(quote(path)).json

    # -- subscriptions -----------------------------------------------------------------------------------------

    def ask(
        self, method: str, target: str, document: object = None, token: str | None = None, **headers: str
    ) -> TestResponse:
        """A request below ``__ds``; ``document`` is sent as JSON."""
        sent = {"Authorization": f"Bearer {token}"} if token is not None else {}
        if document is not None:
            sent |= JSON
        body = b"" if document is None else json.dumps(document).encode()
        return self.request(method, f"__ds/{target}", body, sent | headers)

    def control(
        self, method: str, sub: str, action: str = "", document: object = None, token: str | None = None
    ) -> TestResponse:
        """A request for a subscription."""
        return self.ask(method, f"subscriptions/{quote(sub, safe='')}{action}", document, token)

    def subscribe(self, sub: str = "sub-1", **config: Any) -> Any:
        """A subscription as it was answered; a pull-wake one unless ``webhook`` is given."""
        if "webhook" in config:
            config = {"type": "webhook"} | config
        else:
            config = {"type": "pull-wake", "wake_stream": "wake/pool"} | config
            self.create(config["wake_stream"])
        if "streams" not in config:
            config = {"pattern": "events/*"} | config
        response = self.control("PUT", sub, document=config)
        assert response.status_int == 201, response
        return response.json

    def shown(self, sub: str = "sub-1") -> Any:
        response = self.control("GET", sub)
        assert response.status_int == 200, response
        return response.json

    def tracked(self, sub: str = "sub-1") -> Tracked:
        return self.registry.require(sub)

    def claim(self, sub: str = "sub-1", worker: str = "worker-1") -> Any:
        response = self.control("POST", sub, "/claim", {"worker": worker})
        assert response.status_int == 200, response
        return response.json

    def ack(
        self,
        told: Any,
        sub: str = "sub-1",
        *,
        acks: list[tuple[str, str]] | None = None,
        done: bool = True,
        action: str = "/ack",
    ) -> TestResponse:
        """An ack of what a claim or a webhook has told: of everything unless ``acks`` says of what."""
        if acks is None:
            acks = [(stream["path"], stream["tail_offset"]) for stream in told["streams"]]
        document = {
            "wake_id": told["wake_id"],
            "generation": told["generation"],
            "acks": [{"stream": path, "offset": offset} for path, offset in acks],
            "done": done,
        }
        return self.control("POST", sub, action, document, told.get("token") or told.get("callback_token"))

    def wake_events(self, path: str = "wake/pool") -> Any:
        self.settle()
        return self.messages(path)


def delivery(receiver: Receiver) -> Delivery:
    """The next request of a receiver; meanwhile the event loop runs."""
    until(lambda: not receiver.deliveries.empty(), "a delivery")
    return receiver.deliveries.get_nowait()


def error_of(response: TestResponse) -> tuple[int, str]:
    """Status and code of a refusal, whose form is checked."""
    assert response.content_type == "application/json"
    assert response.json.keys() == {"error"}
    assert response.json["error"]["message"]
    return response.status_int, response.json["error"]["code"]
