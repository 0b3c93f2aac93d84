"""Subscriptions put together over one store: what is needed is made when the first subscription needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_network
from time import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import gevent

from durable_streams.config.subscriptions import SubscriptionSettings
from durable_streams.extras import MissingExtra, require_extra
from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.subscriptions.errors import WebhooksMissing
from durable_streams.protocol.subscriptions.state import Subscription
from durable_streams.protocol.subscriptions.targets import WebhookPolicy
from durable_streams.streams.internal.leases import Leadership
from durable_streams.streams.store import StreamStore
from durable_streams.streams.wakes import Listener
from durable_streams.subscriptions.control import Control
from durable_streams.subscriptions.creating import Creator
from durable_streams.subscriptions.dispatching.delivering import (
    Answer,
    Deliverer,
    DeliveryFailed,
    Surrounding,
)
from durable_streams.subscriptions.dispatching.dispatcher import Dispatcher
from durable_streams.subscriptions.figures import Backlog, backlog_of
from durable_streams.subscriptions.linked_streams import LinkedStreams
from durable_streams.subscriptions.registry import Registry
from durable_streams.subscriptions.tokens import Tokens
from durable_streams.subscriptions.tracked import SteadyClock
from durable_streams.subscriptions.webhooks.keys import Keys, sign_webhook

if TYPE_CHECKING:
    from durable_streams.subscriptions.webhooks.client import WebhookClient

LEASE_NAME: Final = "dispatcher"
LEASE_S: Final = 10.0
EXTRA: Final = "subscriptions"


class SubscriptionService:
    """The subscriptions of one store, from its opening to its closing. ``control`` is for clients."""

    def __init__(
        self, store: StreamStore, settings: SubscriptionSettings, listen: Callable[[Listener], None]
    ) -> None:
        """``listen`` registers who is told of every change of a stream."""
        self.settings = settings
        self._store = store
        self._made_tokens: Tokens | None = None
        self._made_webhooks: WebhookClient | None = None
        shared = store.storage.shared
        self._registry = Registry(store.histories, LinkedStreams(store), SteadyClock(), shared=shared)
        self._keys = Keys(store.documents, time)
        self._leadership = Leadership(store.leases, LEASE_NAME, store.clock, LEASE_S) if shared else None
        self._delivering = deliverer = self._deliverer()
        self.counts = deliverer.counts
        self._dispatcher = Dispatcher(
            self._registry,
            deliverer.take_step,
            settings.parallel_deliveries,
            self._leadership.leads if self._leadership else None,
        )
        creator = Creator(self._registry, settings.max_subscriptions, settings.max_links)
        self.control = Control(
            self._registry,
            creator,
            self._keys,
            self._tokens,
            self._check_webhook,
            self._dispatcher.loaded,
        )
        self._greenlet: gevent.Greenlet[[], None] | None = None
        listen(self._dispatcher)

    @property
    def count(self) -> int:
        """How many subscriptions this process knows of."""
        return len(self._registry)

    def open(self) -> None:
        """Load the subscriptions and deliver, in the background. The store is open."""
        self._greenlet = gevent.spawn(self._dispatcher.run)

    def close(self) -> None:
        """Deliver nothing more; the store is still open."""
        if self._greenlet is None:
            return
        self._dispatcher.stop()
        self._greenlet.join()
        self._greenlet = None
        if self._leadership is not None:
            self._leadership.resign()
        if self._made_webhooks is not None:
            self._made_webhooks.close()

    def backlog(self) -> Backlog:
        """How far behind workers are; nothing in a process that does not dispatch, which would know it late."""
        return backlog_of(self._registry) if self._dispatcher.is_leading else Backlog()

    def root(self, sub: Subscription) -> str:
        """The URL of the stream root, for callbacks and keys."""
        return self.settings.public_url or sub.root

    def _make_token(self, subscription_id: str, generation: int) -> str:
        return self._tokens().make(subscription_id, generation)

    def _tokens(self) -> Tokens:
        if self._made_tokens is None:
            self._made_tokens = Tokens(self._keys.current().token_secret, self.settings.token_ttl_secs)
        return self._made_tokens

    def _webhooks(self) -> WebhookClient:
        """Raises MissingExtra."""
        if self._made_webhooks is None:
            require_extra(EXTRA, "a webhook subscription")
            from durable_streams.subscriptions.webhooks.client import WebhookClient

            settings = self.settings
            networks = tuple(map(ip_network, settings.webhook_networks))
            policy = WebhookPolicy(settings.allow_localhost_webhooks, settings.webhook_hosts, networks)
            self._made_webhooks = WebhookClient(policy, settings.webhook_ca_path)
        return self._made_webhooks

    def _check_webhook(self, url: str) -> None:
        try:
            client = self._webhooks()
        except MissingExtra as exc:
            raise WebhooksMissing(str(exc)) from None
        client.check(url)

    def _deliverer(self) -> Deliverer:
        return Deliverer(
            self._registry,
            self._send,
            self._make_token,
            self._url_of,
            self.settings.webhook_timeout_secs,
            time,
        )

    def _url_of(self, sub: Subscription) -> str:
        return f"{self.root(sub)}/__ds/subscriptions/{quote(sub.id, safe=':@!$()*,;=~')}"

    def surround_deliveries(self, surround: Surrounding) -> None:
        """From now on webhooks are delivered in what ``surround`` makes."""
        self._delivering.surround = surround

    def _send(self, url: str, body: bytes, timeout_s: float, headers: Mapping[str, str]) -> Answer:
        try:
            signature = sign_webhook(self._keys.active(), body, time())
            return self._webhooks().post(url, body, signature, timeout_s, headers)
        except MissingExtra as exc:
            raise DeliveryFailed(str(exc)) from None
        except ProtocolError as exc:
            raise DeliveryFailed(f"the webhook could not be signed ({exc.detail})") from None
