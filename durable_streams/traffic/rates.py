"""Rates: how often one client, principal or prefix may ask, and the answer to who asks more often.

A gate of the web floor. It counts before the request is carried out, so refused requests cost next to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from limits import RateLimitItem
from limits.strategies import SlidingWindowCounterRateLimiter

from durable_streams.addresses import client_of
from durable_streams.exchanges import Exchange
from durable_streams.protocol.errors import TooManyRequests
from durable_streams.traffic import RATE_HEADERS

FREE: Final = frozenset({"health", "readiness"})
"""Probes are never refused; preflights pass no gate."""
OTHER: Final = "other"
STREAM_OPERATIONS: Final = frozenset({"create", "append", "read", "poll", "subscribe", "head", "delete"})
LENGTH_DIGITS_MAX: Final = 18
"""A body that says to be longer is refused when it is read."""


KeyOf = Callable[[Exchange], str | None]
"""Who is counted together; None: the rate does not hold for this request."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``label``: its name in the headers. ``operations``: empty for all. ``of_bytes``: of bodies, not of requests."""

    label: str
    item: RateLimitItem
    key_of: KeyOf
    operations: frozenset[str] = frozenset()
    of_bytes: bool = False

    def holds_for(self, operation: str) -> bool:
        kind = operation if operation in STREAM_OPERATIONS else OTHER
        return not self.operations or kind in self.operations


class RateGate:
    """Refuses a request that is beyond one of the rates; says in every answer how much is left."""

    def __init__(self, rates: Iterable[Rate], limiter: SlidingWindowCounterRateLimiter) -> None:
        self._rates = tuple(rates)
        self._limiter = limiter
        self._of_operation: dict[str, tuple[Rate, ...]] = {}

    def __call__(self, exchange: Exchange) -> None:
        """Raises TooManyRequests."""
        operation = exchange.operation
        if operation in FREE:
            return
        rates = self._of_operation.get(operation)
        if rates is None:
            rates = tuple(rate for rate in self._rates if rate.holds_for(operation))
            # The names of routes are a fixed set.
            self._of_operation[operation] = rates
        for rate in rates:
            key = rate.key_of(exchange)
            if key is not None:
                self._count(exchange, rate, key)

    def _count(self, exchange: Exchange, rate: Rate, key: str) -> None:
        size = declared_length(exchange.environ) if rate.of_bytes else 1
        if size is None:
            source = exchange.environ["wsgi.input"]
            exchange.environ["wsgi.input"] = MeteredBody(source, lambda size: self._take(rate, key, size))
        is_within = self._limiter.hit(rate.item, rate.label, key, cost=size or 0)
        reset_s = self._add_headers(exchange, rate, key, is_within)
        if not is_within:
            raise _refusal(rate, reset_s)

    def _add_headers(self, exchange: Exchange, rate: Rate, key: str, is_within: bool) -> int:
        """Returns after how many seconds some of the rate is free again."""
        item = rate.item
        reset_s, left = self._left(rate, key)
        exchange.environ[RATE_HEADERS] = [
            *exchange.environ.get(RATE_HEADERS, ()),
            ("RateLimit-Policy", f'"{rate.label}";q={item.amount};w={item.get_expiry()}'),
            ("RateLimit", f'"{rate.label}";r={left if is_within else 0};t={reset_s}'),
        ]
        return reset_s

    def _left(self, rate: Rate, key: str) -> tuple[int, int]:
        reset_at, left = self._limiter.get_window_stats(rate.item, rate.label, key)
        return max(1, ceil(reset_at - time.time())), max(0, left)

    def _take(self, rate: Rate, key: str, size: int) -> None:
        """Count bytes of a body that comes in parts; raises TooManyRequests."""
        if not self._limiter.hit(rate.item, rate.label, key, cost=size):
            raise _refusal(rate, self._left(rate, key)[0])


class MeteredBody:
    """A request body of unknown length, counted while it is read."""

    def __init__(self, source: Any, take: Callable[[int], None]) -> None:
        self._source = source
        self._take = take

    def read(self, size: int = -1) -> bytes:
        """As ``wsgi.input`` has it; raises TooManyRequests too."""
        piece: bytes = self._source.read(size)
        if piece:
            self._take(len(piece))
        return piece


def _refusal(rate: Rate, reset_s: int) -> TooManyRequests:
    unit = " bytes" if rate.of_bytes else ""
    return TooManyRequests(f"The rate {rate.label!r} is reached: {rate.item}{unit}", reset_s)


def by_address(exchange: Exchange) -> str:
    """The address, or network, of the client."""
    return f"address {client_of(exchange.environ.get('REMOTE_ADDR') or '')!r}"


def by_principal(exchange: Exchange) -> str:
    """Who asks; the address of one who has no name."""
    principal = exchange.principal
    return by_address(exchange) if principal is None else f"principal {principal}"


def declared_length(environ: dict[str, Any]) -> int | None:
    """The length of the request body as it is sent; None for one that comes in chunks."""
    text: str = environ.get("CONTENT_LENGTH") or ""
    if not text:
        return None if environ.get("HTTP_TRANSFER_ENCODING") else 0
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= LENGTH_DIGITS_MAX else 0
