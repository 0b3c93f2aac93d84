"""The settings of defaults, rates, quotas and proxies; docs/traffic.md and docs/deployment.md explain them.

Rules are lists of TOML tables. In an environment variable such a list is written as TOML has it within one line.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import tomli
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from durable_streams.config import values
from durable_streams.config.declaring import Section, setting

ByteCount = Annotated[int, BeforeValidator(values.byte_count)]
Rate = Annotated[str, AfterValidator(values.rate)]
Networks = Annotated[tuple[str, ...], BeforeValidator(values.text_list), AfterValidator(values.networks)]
PublicUrl = Annotated[str, AfterValidator(values.origin_url)]
Operation = Literal["create", "append", "read", "poll", "subscribe", "head", "delete", "other"]
"""Those of streams; ``other`` is everything else but probes and preflights."""


def table_list(value: Any) -> Any:
    """A list of tables, also when it is written as one text."""
    if isinstance(value, str):
        try:
            value = tomli.loads(f"value = {value}")["value"] if value.strip() else []
        except tomli.TOMLDecodeError as exc:
            raise ValueError(f'must be a list of tables such as [{{prefix = "a/"}}]: {exc}') from None
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list of tables, as [[...]] or [{...}]")
    return tuple(value)


class PrefixRule(Section):
    """A rule for all streams whose names begin with ``prefix``; an empty one is for all streams."""

    prefix: str


class PrefixDefaults(PrefixRule):
    """What streams get that ask for nothing else; what is left out is as for all streams."""

    ttl_secs: int | None = Field(None, ge=1, le=10**10)
    max_stream_bytes: ByteCount | None = Field(None, ge=0)
    producer_ttl_secs: int | None = Field(None, ge=0)
    max_producers_per_stream: int | None = Field(None, ge=0)
    max_forks_per_stream: int | None = Field(None, ge=0)


class RateRule(Section):
    """At most ``limit`` requests of one client."""

    limit: Rate
    by: Literal["address", "principal"] = "address"
    operations: Annotated[tuple[Operation, ...], BeforeValidator(values.text_list)] = ()
    """Empty: all."""


class WrittenQuota(Section):
    """The part of a quota that begins anew with time; 0 is no limit."""

    appends_per_sec: int = Field(0, ge=0)
    bytes_per_day: Annotated[int, BeforeValidator(values.byte_count)] = Field(0, ge=0)
    creates_per_day: int = Field(0, ge=0)


class PrefixQuota(PrefixRule, WrittenQuota):
    """What all streams of a prefix may hold and take together; 0 is no limit."""

    max_bytes: ByteCount = Field(0, ge=0)
    max_streams: int = Field(0, ge=0)


class PrincipalQuota(WrittenQuota):
    """What one principal may write; ``*`` is for each of those that no other quota names."""

    principal: str = Field(min_length=1)


def no_prefix_twice(rules: tuple[PrefixRule, ...]) -> tuple[PrefixRule, ...]:
    """Two rules for one prefix would contradict each other."""
    prefixes = [rule.prefix for rule in rules]
    twice = [prefix for prefix in prefixes if prefixes.count(prefix) > 1]
    if twice:
        raise ValueError(f"has two entries for the prefix {twice[0]!r}")
    return rules


def no_principal_twice(rules: tuple[PrincipalQuota, ...]) -> tuple[PrincipalQuota, ...]:
    names = [rule.principal for rule in rules]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"has two entries for the principal {twice[0]!r}")
    return rules


Tables: Final = BeforeValidator(table_list)
DefaultsList = Annotated[tuple[PrefixDefaults, ...], Tables, AfterValidator(no_prefix_twice)]
RateList = Annotated[tuple[RateRule, ...], Tables]
PrefixQuotas = Annotated[tuple[PrefixQuota, ...], Tables, AfterValidator(no_prefix_twice)]
PrincipalQuotas = Annotated[tuple[PrincipalQuota, ...], Tables, AfterValidator(no_principal_twice)]


class DefaultSettings(Section):
    """What streams get that ask for nothing else, by the beginning of their names."""

    by_prefix: DefaultsList = setting(
        (),
        "Tables with `prefix` and any of `ttl_secs`, `max_stream_bytes`, `producer_ttl_secs`, "
        "`max_producers_per_stream`, `max_forks_per_stream`. The longest prefix of a name counts.",
    )


class RateSettings(Section):
    """How often a client may ask. Each worker counts for itself."""

    rules: RateList = setting(
        (),
        "Tables with `limit` (as `100/minute`), `by` (`address` or `principal`) and `operations`; a request beyond one "
        "of them is answered with 429, Retry-After and the RateLimit headers.",
    )
    max_counters: int = setting(
        50_000,
        "The most clients that are counted, for rates and quotas together; beyond it the one that was silent longest "
        "is forgotten.",
        unit="counters",
        ge=100,
        le=10_000_000,
    )


class QuotaSettings(Section):
    """How much may be stored and written."""

    by_prefix: PrefixQuotas = setting(
        (),
        "Tables with `prefix` and any of `max_bytes`, `max_streams`, `appends_per_sec`, `bytes_per_day`, "
        "`creates_per_day`. Each prefix of a name counts. `max_bytes` and `max_streams` need a storage of one process.",
    )
    by_principal: PrincipalQuotas = setting(
        (),
        "Tables with `principal` (`*` for each other one) and any of `appends_per_sec`, `bytes_per_day`, "
        "`creates_per_day`.",
    )

    @property
    def stored(self) -> tuple[PrefixQuota, ...]:
        """Those that limit what is there."""
        return tuple(quota for quota in self.by_prefix if quota.max_bytes or quota.max_streams)


def check_stored_quotas(quotas: QuotaSettings, is_shared: bool, mode: str) -> None:
    """Raise PydanticCustomError where no process could count what all of them store."""
    if is_shared and quotas.stored:
        raise PydanticCustomError(
            "shared_quota",
            "max_bytes and max_streams are counted by one process, and {mode} has several",
            {"key": "quotas.by_prefix", "mode": mode},
        )


class PublicOrigin(Section):
    """Under which origin the server is known, a part of its own section."""

    public_url: PublicUrl = setting(
        "", "The origin that clients know, such as `https://streams.example`, if any."
    )


class ProxySettings(Section):
    """Whom the server believes what it says of its client: address, scheme and host."""

    trusted: Networks = setting(
        (),
        "Networks of the proxies in front, such as `10.0.0.0/8`. With an empty list the proxy on this machine may say "
        "the scheme by X-Forwarded-Proto, and nothing else.",
    )
    headers: Literal["x-forwarded", "forwarded"] = setting(
        "x-forwarded",
        "Which headers count: X-Forwarded-For, -Proto and -Host, or Forwarded (RFC 7239). The proxy has to set or "
        "remove them.",
    )
