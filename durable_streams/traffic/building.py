"""The gates of rates and quotas, made from the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from durable_streams.config import Config
from durable_streams.config.traffic import PrefixQuota, PrincipalQuota, RateRule, WrittenQuota
from durable_streams.extras import require_extra

if TYPE_CHECKING:
    from durable_streams.exchanges import Exchange
    from durable_streams.traffic.rates import KeyOf, Rate, RateGate

EXTRA: Final = "rates"
ALL_OTHERS: Final = "*"
WRITTEN: Final = (
    ("appends_per_sec", "second", frozenset({"append"}), False),
    ("bytes_per_day", "day", frozenset({"append", "create"}), True),
    ("creates_per_day", "day", frozenset({"create"}), False),
)
"""Field of a quota, its unit of time, what it counts, and whether it counts bytes."""


@dataclass(frozen=True, slots=True)
class TrafficGates:
    """``first``: before anybody is asked who they are. ``last``: once that is known."""

    first: tuple[RateGate, ...] = ()
    last: tuple[RateGate, ...] = ()


def counts_traffic(config: Config) -> bool:
    """Whether there is any rate, or a quota that begins anew with time."""
    quotas: tuple[WrittenQuota, ...] = (*config.quotas.by_prefix, *config.quotas.by_principal)
    return bool(config.rates.rules) or any(getattr(each, name) for each in quotas for name, *_ in WRITTEN)


def traffic_gates(config: Config) -> TrafficGates:
    """The gates, none where nothing is counted; raises MissingExtra."""
    if not counts_traffic(config):
        return TrafficGates()
    require_extra(EXTRA, "rates and quotas")
    from limits.strategies import SlidingWindowCounterRateLimiter

    from durable_streams.traffic.counters import BoundedCounters
    from durable_streams.traffic.rates import RateGate

    limiter = SlidingWindowCounterRateLimiter(BoundedCounters(config.rates.max_counters))
    first = [_rate_of(number, rule) for number, rule in _rules(config, "address")]
    last = [_rate_of(number, rule) for number, rule in _rules(config, "principal")]
    last += _quota_rates(config)
    return TrafficGates(
        (RateGate(first, limiter),) if first else (),
        (RateGate(last, limiter),) if last else (),
    )


def _rules(config: Config, by: str) -> list[tuple[int, RateRule]]:
    return [(number, rule) for number, rule in enumerate(config.rates.rules, 1) if rule.by == by]


def _rate_of(number: int, rule: RateRule) -> Rate:
    from limits import parse

    from durable_streams.traffic.rates import Rate, by_address, by_principal

    key_of = by_address if rule.by == "address" else by_principal
    return Rate(f"rate-{number}", parse(rule.limit), key_of, frozenset(rule.operations))


def _quota_rates(config: Config) -> Iterator[Rate]:
    for number, quota in enumerate(config.quotas.by_prefix, 1):
        yield from _written(f"prefix-{number}", quota, _below(quota))
    named = frozenset(quota.principal for quota in config.quotas.by_principal)
    for number, each in enumerate(config.quotas.by_principal, 1):
        yield from _written(f"principal-{number}", each, _of_principal(each, named))


def _written(label: str, quota: WrittenQuota, key_of: KeyOf) -> Iterator[Rate]:
    from limits import parse

    from durable_streams.traffic.rates import Rate

    for name, unit, operations, of_bytes in WRITTEN:
        amount: int = getattr(quota, name)
        if amount:
            kind = name.replace("_", "-")
            yield Rate(f"{label}-{kind}", parse(f"{amount}/{unit}"), key_of, operations, of_bytes)


def _below(quota: PrefixQuota) -> KeyOf:
    """All streams of the prefix are counted together."""
    prefix = quota.prefix
    return lambda exchange: "" if exchange.name.startswith(prefix) else None


def _of_principal(quota: PrincipalQuota, named: frozenset[str]) -> Callable[[Exchange], str | None]:
    from durable_streams.traffic.rates import by_principal

    wanted = quota.principal

    def key(exchange: Exchange) -> str | None:
        name = str(exchange.principal)
        if wanted == ALL_OTHERS:
            return None if name in named else by_principal(exchange)
        return name if name == wanted else None

    return key
