"""What clients ask of subscriptions (sections 6 and 7), for whatever speaks to them: values in, JSON values out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Final

from gevent.event import Event

from durable_streams.protocol.errors import Unavailable
from durable_streams.protocol.subscriptions import wire
from durable_streams.protocol.subscriptions.config import Wanted
from durable_streams.protocol.subscriptions.errors import NoPendingWork
from durable_streams.protocol.subscriptions.requests import (
    Ack,
    AddStreams,
    Claim,
    Delete,
    Grant,
    Release,
    RemoveStream,
)
from durable_streams.protocol.subscriptions.state import Subscription
from durable_streams.subscriptions import rendering
from durable_streams.subscriptions.creating import Creator
from durable_streams.subscriptions.dispatching.delivering import new_wake_id, streams_of
from durable_streams.subscriptions.reconciling import reconcile_one
from durable_streams.subscriptions.registry import Registry
from durable_streams.subscriptions.tokens import Tokens
from durable_streams.subscriptions.tracked import Tracked
from durable_streams.subscriptions.webhooks.keys import Keys

LOADING_S_MAX: Final = 30.0
"""How long a request waits for the subscriptions to be loaded after a start."""


class Control:
    """The operations on the subscriptions of one storage. Each raises the ProtocolError that refuses it."""

    def __init__(
        self,
        registry: Registry,
        creator: Creator,
        keys: Keys,
        tokens: Callable[[], Tokens],
        check_webhook: Callable[[str], None],
        loaded: Event,
    ) -> None:
        self._registry = registry
        self._creator = creator
        self._keys = keys
        self._tokens = tokens
        self._check_webhook = check_webhook
        self._loaded = loaded

    # -- sections 6.2 to 6.4 -----------------------------------------------------------------------------------

    def put(self, subscription_id: str, wanted: Wanted, root: str) -> bool:
        """Create or confirm; whether it is new."""
        self._await_loaded()
        if wanted.config.webhook_url is not None:
            self._check_webhook(wanted.config.webhook_url)
        return self._creator.confirm_or_create(subscription_id, wanted, root)

    def get(self, subscription_id: str, root: Callable[[Subscription], str]) -> wire.Json:
        """``root``: the URL of the stream root."""
        tracked = self._require(subscription_id)
        return rendering.whole(tracked, self._registry, self._signing(tracked.sub, root))

    def list(self, after: str, limit: int, root: Callable[[Subscription], str]) -> wire.Json:
        """Up to ``limit`` subscriptions whose ids sort after ``after``, without their streams."""
        self._await_loaded()
        ids = [tracked.id for tracked in self._registry]
        begin = bisect_right(ids, after) if after else 0
        page = ids[begin : begin + limit]
        found = [self._registry.find(subscription_id) for subscription_id in page]
        return {
            "subscriptions": [
                rendering.summary(tracked, self._signing(tracked.sub, root))
                for tracked in found
                if tracked is not None and tracked.exists
            ],
            "next": page[-1] if begin + limit < len(ids) else None,
        }

    def delete(self, subscription_id: str) -> None:
        """Deleting one that is not there is no error."""
        self._await_loaded()
        if self._registry.find(subscription_id) is not None:
            self._registry.update(subscription_id, Delete())

    def add_streams(self, subscription_id: str, paths: tuple[str, ...]) -> None:
        self._await_loaded()
        self._registry.update(subscription_id, AddStreams(paths, self._creator.links_max))

    def remove_stream(self, subscription_id: str, path: str) -> None:
        self._await_loaded()
        self._registry.update(subscription_id, RemoveStream(path))

    # -- section 7 ---------------------------------------------------------------------------------------------

    def claim(self, subscription_id: str, worker: str) -> wire.Json:
        tracked = self._require(subscription_id)
        request = Claim(worker, new_wake_id())
        try:
            self._registry.update(subscription_id, request)
        except NoPendingWork:
            if not self._registry.shared:
                raise
            # The wake of what another process has appended may be under way.
            reconcile_one(self._registry, tracked)
            self._registry.update(subscription_id, request)
        with tracked.lock:
            return self._claimed(self._require(subscription_id))

    def _claimed(self, tracked: Tracked) -> wire.Json:
        wake = tracked.sub.wake
        if wake is None:
            raise Unavailable("the claim is over already")
        return {
            "wake_id": wake.id,
            "generation": wake.generation,
            "token": self._tokens().make(tracked.id, wake.generation),
            "streams": streams_of(tracked, wake.entries, self._registry),
            "lease_ttl_ms": tracked.sub.config.lease_ttl_ms,
        }

    def check_token(self, subscription_id: str, authorization: str | None) -> Grant:
        """What the bearer token grants; first of all the subscription has to be there."""
        self._require(subscription_id)
        return self._tokens().read(authorization)

    def ack(self, subscription_id: str, request: Ack) -> wire.Json:
        """An ack or a callback."""
        decision = self._registry.update(subscription_id, request)
        return {"ok": True, "next_wake": decision.next_wake}

    def release(self, subscription_id: str, request: Release) -> None:
        self._registry.update(subscription_id, request)

    # -- section 6.5 -------------------------------------------------------------------------------------------

    def jwks(self) -> wire.Json:
        return {"keys": [key.jwk for key in self._keys.published()]}

    def rotate_key(self) -> tuple[wire.Json, bool]:
        """Extension: publish the next signing key; whether it is new."""
        key, is_new = self._keys.rotate()
        return {"kid": key.kid, "signs_from": wire.timestamp(key.signs_from)}, is_new

    def _signing(self, sub: Subscription, root: Callable[[Subscription], str]) -> wire.Json | None:
        if sub.pulls:
            return None
        return {
            "alg": "ed25519",
            "kid": self._keys.active().kid,
            "jwks_url": f"{root(sub)}/__ds/jwks.json",
        }

    def _require(self, subscription_id: str) -> Tracked:
        self._await_loaded()
        return self._registry.require(subscription_id)

    def _await_loaded(self) -> None:
        if not self._loaded.is_set() and not self._loaded.wait(LOADING_S_MAX):
            raise Unavailable("the subscriptions are being loaded")
