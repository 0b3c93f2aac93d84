"""A subscription and the streams around it, without storage and without HTTP: what the tables of rules are tried on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from durable_streams.protocol.errors import InvalidOffset
from durable_streams.protocol.state import NO_EXPIRY, StreamConfig, StreamState
from durable_streams.protocol.subscriptions import events
from durable_streams.protocol.subscriptions.config import PULL_WAKE, WEBHOOK, SubscriptionConfig
from durable_streams.protocol.subscriptions.deciding import Decision, decide, first_link
from durable_streams.protocol.subscriptions.requests import (
    Ack,
    Attempt,
    Bury,
    Claim,
    Expire,
    Fail,
    Grant,
    Release,
    Request,
    Situation,
    Succeed,
    WakeUp,
)
from durable_streams.protocol.subscriptions.state import Subscription, Wake

NOW = 1_800_000_000.0
ROOT = "https://streams.example/v1/stream"
ID = "sub-1"
LEASE_S = 30.0


def offset_at(stream: StreamState, position: int) -> str:
    return f"{stream.config.uid}_{position:06d}"


def position_of(stream: StreamState, text: str) -> int:
    uid, _, digits = text.rpartition("_")
    if uid != stream.config.uid or not digits.isdigit():
        raise InvalidOffset(f"Invalid offset: {text!r} was never given out by this stream")
    return int(digits)


def webhook(**more: Any) -> SubscriptionConfig:
    more.setdefault("pattern", "events/*")
    return SubscriptionConfig(WEBHOOK, webhook_url="https://worker.example/hooks", **more)


def pull_wake(**more: Any) -> SubscriptionConfig:
    more.setdefault("pattern", "events/*")
    more.setdefault("wake_stream", "wake/pool")
    return SubscriptionConfig(PULL_WAKE, **more)


@dataclass
class Scene:
    """``config`` decides the subscription; ``log`` is every event, from which it can be made again."""

    config: SubscriptionConfig = field(default_factory=pull_wake)
    now: float = NOW
    streams: dict[str, StreamState] = field(default_factory=dict)
    log: list[events.Event] = field(default_factory=list)
    found: Subscription | None = None
    _behind: dict[str, None] = field(default_factory=dict)
    _uids: Any = field(default_factory=lambda: count(1))
    _lives: Any = field(default_factory=lambda: count(int(NOW) * 1_000_000))
    _wakes: Any = field(default_factory=lambda: count(1))

    # -- streams -----------------------------------------------------------------------------------------------

    def append(self, path: str, size: int = 10, *, close: bool = False) -> StreamState:
        """An append, which creates the stream when there is none."""
        stream = self.streams.get(path)
        if stream is None:
            stream = self.create(path)
        self.streams[path] = replace(stream, tail=stream.tail + size, closed=stream.closed or close)
        self._behind.setdefault(path)
        return self.streams[path]

    def create(self, path: str, tail: int = 0, *, closed: bool = False) -> StreamState:
        config = StreamConfig(
            path, f"u{next(self._uids)}", "application/json", NO_EXPIRY, None, life=next(self._lives)
        )
        self.streams[path] = StreamState(config, tail, self.now, closed=closed)
        return self.streams[path]

    def delete(self, path: str) -> None:
        del self.streams[path]

    def tail_of(self, path: str) -> str:
        return offset_at(self.streams[path], self.streams[path].tail)

    # -- the subscription --------------------------------------------------------------------------------------

    def subscribe(self, generation: int = 0) -> Subscription:
        """Create it: the streams that are there are linked where the configuration says."""
        paths = {path for path in self.streams if self._blank().matches(path)} | set(self.config.streams)
        links = []
        for path in sorted(paths):
            stream = self.streams.get(path)
            explicit = path in self.config.streams
            if stream is None:
                links.append(events.Link(path, None, 0, explicit))
            else:
                link = first_link(path, stream, self.config.start, self.situation())
                links.append(link._replace(explicit=explicit))
        created = events.Created(ID, self.config, self.now, ROOT, generation)
        self.happen((created, *events.linked(links)))
        assert self.found is not None
        return self.found

    def _blank(self) -> Subscription:
        return Subscription(ID, self.config, self.now, ROOT)

    def situation(self) -> Situation:
        found = self.found
        behind = {}
        if found is not None:
            candidates = {**self._behind, **dict.fromkeys(self.streams)}
            behind = {
                path: self.streams[path]
                for path in candidates
                if path in self.streams
                and found.is_linked(path)
                and found.is_pending(path, self.streams[path])
            }
            self._behind = dict.fromkeys(behind)
        return Situation(self.now, self.streams.get, behind, offset_at, position_of)

    def happen(self, happened: tuple[events.Event, ...]) -> None:
        for event in happened:
            self.found = events.apply(self.found, event)
        self.log.extend(happened)

    def do(self, request: Request) -> Decision:
        decision = decide(self.found, request, self.situation(), ID)
        self.happen(decision.events)
        return decision

    def again(self) -> Subscription | None:
        """The subscription as a restart would find it."""
        found = None
        for event in self.log:
            found = events.apply(found, event)
        return found

    # -- short forms -------------------------------------------------------------------------------------------

    @property
    def sub(self) -> Subscription:
        assert self.found is not None
        return self.found

    @property
    def wake(self) -> Wake:
        assert self.sub.wake is not None
        return self.sub.wake

    @property
    def cursor(self) -> dict[str, int]:
        return {path: link.position for path, link in self.sub.links.items()}

    def wake_up(self) -> Wake:
        self.do(WakeUp(f"w_{next(self._wakes)}"))
        return self.wake

    def claim(self, worker: str = "worker-1") -> Wake:
        self.do(Claim(worker, f"w_{next(self._wakes)}"))
        return self.wake

    def grant(self) -> Grant:
        return Grant(ID, self.wake.generation)

    def ack(self, *acks: tuple[str, str], done: bool = True, **other: Any) -> Decision:
        """An ack with the right token, generation and wake, unless ``other`` says so."""
        told = {"grant": self.grant(), "wake_id": self.wake.id, "generation": self.wake.generation}
        callback = not self.sub.pulls
        return self.do(Ack(**(told | other), acks=acks, done=done, callback=callback))

    def release(self) -> Decision:
        return self.do(Release(self.grant(), self.wake.id, self.wake.generation))

    def attempt(self) -> Decision:
        return self.do(Attempt(self.wake.id))

    def succeed(self, *, done: bool, wake_id: str | None = None) -> Decision:
        return self.do(Succeed(wake_id or self.wake.id, done, self.now))

    def fail(self, wake_id: str | None = None, chance: float = 0.5) -> Decision:
        return self.do(Fail(wake_id or self.wake.id, "503 Service Unavailable", chance))

    def bury(self) -> Decision:
        return self.do(Bury(self.wake.id))

    def expire(self) -> Decision:
        return self.do(Expire())
