"""Client addresses: what counts as one client."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Final

_NETWORK_BYTES: Final = 8


def client_of(address: str) -> str | bytes:
    """An IPv4 address, or the /64 of an IPv6 address: one customer has that many of them.

    What is no IPv6 address stands for itself.
    """
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return parsed.packed[:_NETWORK_BYTES]
