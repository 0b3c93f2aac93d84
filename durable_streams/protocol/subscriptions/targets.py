"""Which URLs the server sends webhooks to (sections 6.2 and 12.8): a guard against requests into its own network.

A URL is judged twice: as text when the subscription is created, and by the addresses that its host has at the moment
of each connection. Both judgements are here; resolving and connecting are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from durable_streams.protocol.subscriptions.errors import WebhookUrlRejected

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_BYTES_MAX: Final = 2048
_URL = re.compile(r"[!-\[\]-~]+")
"""Printable ASCII without the backslash, which some parsers take for a slash."""
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_LOOPBACK: Final = IPv4Network("127.0.0.0/8")
_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_V4_COMPATIBLE: Final = IPv6Network("::/96")
_V6_GLOBAL: Final = IPv6Network("2000::/3")


@dataclass(frozen=True, slots=True)
class WebhookPolicy:
    """What an operator allows beyond, or instead of, any public https URL."""

    allow_localhost: bool = False
    """Development: `http://localhost` and `http://127.x.x.x` are allowed too."""
    hosts: tuple[str, ...] = ()
    """Only these host names, and for `*.example.org` those below it; empty: any."""
    networks: tuple[Network, ...] = ()
    """Networks that are allowed although they are not public."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads. ``address`` is the host when it is written as an address."""

    scheme: str
    host: str
    port: int
    path: str
    """With the query; what stands in the request line."""
    address: Address | None

    @property
    def may_be_local(self) -> bool:
        """Whether the URL names this machine, for the exception of development."""
        return self.host == "localhost" or (
            isinstance(self.address, IPv4Address) and self.address in _LOOPBACK
        )


# Each delivery judges its URL again; the text and the policy are all that the answer depends on.
@lru_cache(maxsize=1024)
def parse_target(url: str, policy: WebhookPolicy) -> Target:
    """Where ``url`` leads; raises WebhookUrlRejected unless the policy allows it as far as the text tells."""
    parts = _split(url)
    host = (parts.hostname or "").lower().rstrip(".")
    address = _address_in(host)
    if address is None and not _NAME.fullmatch(host):
        raise WebhookUrlRejected("it has no valid host")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = Target(parts.scheme, host, port, path, address)
    if parts.scheme == "http" and not (policy.allow_localhost and target.may_be_local):
        raise WebhookUrlRejected("it must begin with https://")
    if policy.hosts and not any(_is_covered(host, allowed) for allowed in policy.hosts):
        raise WebhookUrlRejected(f"the host {host!r} is not on the list of allowed hosts")
    if address is not None:
        check_address(target, address, policy)
    elif _is_local_name(host) and not (policy.allow_localhost and target.may_be_local):
        raise WebhookUrlRejected("its host is this machine")
    return target


def check_address(target: Target, address: Address, policy: WebhookPolicy) -> None:
    """Raise WebhookUrlRejected unless the host of ``target`` may have this address."""
    if policy.allow_localhost and target.may_be_local and _is_loopback(address):
        return
    for meant in _meant_by(address):
        if any(meant.version == network.version and meant in network for network in policy.networks):
            continue
        if not _is_public(meant):
            raise WebhookUrlRejected(f"the address {address} is not public")


def _split(url: str) -> SplitResult:
    if len(url) > URL_BYTES_MAX:
        raise WebhookUrlRejected(f"it is longer than {URL_BYTES_MAX} bytes")
    if not _URL.fullmatch(url):
        raise WebhookUrlRejected("it must be printable ASCII without spaces and backslashes")
    try:
        parts = urlsplit(url)
        has_port = parts.port != 0
    except ValueError as exc:
        raise WebhookUrlRejected(f"it cannot be read ({exc})") from None
    if parts.scheme not in ("https", "http"):
        raise WebhookUrlRejected("it must begin with https://")
    if not has_port or parts.netloc.endswith(":"):
        raise WebhookUrlRejected("its port is not valid")
    if "@" in parts.netloc:
        raise WebhookUrlRejected("it must not hold a user name or a password")
    if "#" in url:
        raise WebhookUrlRejected("it must not have a fragment")
    return parts


def _address_in(host: str) -> Address | None:
    """The address that ``host`` is, in any notation that a resolver would take for one."""
    if ":" in host:
        try:
            return ip_address(host) if "%" not in host else None
        except ValueError:
            return None
    labels = host.split(".")
    if not re.fullmatch(r"0[xX][0-9a-fA-F]*|[0-9]+", labels[-1]):
        return None
    return _ipv4(labels)


def _ipv4(parts: list[str]) -> IPv4Address:
    """Up to four numbers, decimal, octal or hexadecimal; the last one fills the bytes that are left."""
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 4 or any(number > 255 for number in numbers[:-1]):
        raise WebhookUrlRejected("its host is no valid IPv4 address")
    last_bytes = 5 - len(numbers)
    if numbers[-1] >= 256**last_bytes:
        raise WebhookUrlRejected("its host is no valid IPv4 address")
    value = numbers[-1]
    for index, number in enumerate(numbers[:-1]):
        value += number << (24 - 8 * index)
    return IPv4Address(value)


def _number(text: str) -> int:
    if not text.isascii() or len(text) > 20:
        raise ValueError(text)
    if text[:2] in ("0x", "0X"):
        return int(text[2:] or "0", 16)
    return int(text, 8) if text.startswith("0") else int(text, 10)


def _meant_by(address: Address) -> Iterator[Address]:
    """The address itself, and an IPv4 address that is wrapped in it and may be what is reached."""
    if isinstance(address, IPv4Address):
        yield address
        return
    mapped = address.ipv4_mapped
    if mapped is not None:
        yield mapped
        return
    yield address
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if any(address in network for network in (*_NAT64, _V4_COMPATIBLE)):
        yield IPv4Address(int(address) & 0xFFFFFFFF)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _V6_GLOBAL:
        # NAT64 leads to an IPv4 address, which is judged by itself.
        return address in _NAT64[0]
    if address.is_multicast or address.is_reserved or address.is_private:
        return False
    return address.is_global


def _is_loopback(address: Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _is_local_name(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def _is_covered(host: str, allowed: str) -> bool:
    if allowed.startswith("*."):
        return host.endswith(allowed[1:])
    return host == allowed
