"""The settings of subscriptions; docs/subscriptions.md explains them together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from durable_streams.config import values
from durable_streams.config.declaring import Section, setting

HostPatterns = Annotated[
    tuple[str, ...], BeforeValidator(values.text_list), AfterValidator(values.host_patterns)
]
Networks = Annotated[tuple[str, ...], BeforeValidator(values.text_list), AfterValidator(values.networks)]
OptionalFile = Annotated[Path | None, BeforeValidator(values.optional_file)]
RootUrl = Annotated[str, AfterValidator(values.root_url)]


class SubscriptionSettings(Section):
    """Wakes for workers, by webhook and by wake stream."""

    enabled: bool = setting(
        True, "Whether subscriptions are served below `__ds`; without them it is all 404."
    )
    public_url: RootUrl = setting(
        "",
        "The URL of the stream root as receivers and workers reach it, such as `https://streams.example/v1/stream`; "
        "empty is the address that the server listens on.",
    )
    allow_localhost_webhooks: bool = setting(
        False, "For development: webhooks may go to `http://localhost` and `http://127.x.x.x`."
    )
    allow_open_claims: bool = setting(
        False,
        "For development: wakes may be claimed while nothing controls access; otherwise that is answered with 503.",
    )
    webhook_hosts: HostPatterns = setting(
        (),
        "The only hosts that webhooks may go to, as `worker.example` or `*.example`; an empty list allows all.",
    )
    webhook_networks: Networks = setting(
        (), "Networks that webhooks may reach although they are not public, such as `10.1.0.0/16`."
    )
    webhook_ca_path: OptionalFile = setting(
        None,
        "A PEM file with authorities that receivers' certificates may be of, beside those of the system.",
    )
    webhook_timeout_secs: float = setting(
        30.0,
        "How long a receiver may take to answer, at most the lease of the subscription; then the delivery has failed.",
        unit="seconds",
        gt=0,
        le=600,
    )
    parallel_deliveries: int = setting(
        128, "The most webhooks that are being delivered at once.", unit="deliveries", ge=1, le=10_000
    )
    max_subscriptions: int = setting(
        10_000, "The most subscriptions; the next is answered with 429.", unit="subscriptions", ge=1
    )
    max_links: int = setting(
        100_000,
        "The most streams that a subscription is linked to when it is made or by explicit links; more are answered "
        "with 429.",
        unit="links",
        ge=1,
    )
    token_ttl_secs: int = setting(
        86_400,
        "How old the token of a wake may be, however often its lease is extended; then it is answered with 401.",
        unit="seconds",
        ge=600,
        le=2_592_000,
    )
