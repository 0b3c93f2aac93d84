"""From a webhook's host to addresses that may be connected to (section 12.8).

Every address of a name must be allowed, and a connection goes to one of exactly these addresses: the name is not
looked up again for it, so a name server that changes its answer in between gains nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from time import monotonic
from typing import Final

from durable_streams.protocol.subscriptions.errors import WebhookUrlRejected
from durable_streams.protocol.subscriptions.targets import Address, Target, WebhookPolicy, check_address

CACHE_S: Final = 10.0
"""How long addresses that were found are used again: a busy receiver costs one look-up in this time."""
CACHE_NAMES_MAX: Final = 1024


class HostNotFound(Exception):
    """The name has no address, or the resolver gave no answer; the message is for people."""

    def __init__(self, host: str, reason: str, *, is_final: bool) -> None:
        super().__init__(f"the host {host!r} was not found ({reason})")
        self.is_final = is_final
        """The name does not exist; otherwise asking later may help."""


def look_up(host: str) -> list[str]:
    """The addresses of ``host`` as the system's resolver has them; raises HostNotFound. Waits."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as exc:
        missing = exc.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        raise HostNotFound(host, exc.strerror or str(exc), is_final=missing) from None
    except (OSError, UnicodeError) as exc:
        raise HostNotFound(host, str(exc), is_final=False) from None
    return [str(entry[4][0]) for entry in found]


class Resolver:
    """Addresses of targets, checked against a policy."""

    def __init__(
        self,
        policy: WebhookPolicy,
        look_up: Callable[[str], Sequence[str]] = look_up,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._policy = policy
        self._look_up = look_up
        self._clock = clock
        self._cache: dict[str, tuple[float, tuple[Address, ...]]] = {}

    def addresses(self, target: Target) -> tuple[Address, ...]:
        """Where ``target`` may be reached, in the order of preference; waits for the resolver.

        Raises WebhookUrlRejected when any of them is not allowed, HostNotFound when there is none.
        """
        if target.address is not None:
            return (target.address,)
        now = self._clock()
        known = self._cache.get(target.host)
        if known is not None and now < known[0]:
            found = known[1]
        else:
            found = tuple(dict.fromkeys(ip_address(text) for text in self._look_up(target.host)))
            self._remember(target.host, now, found)
        for address in found:
            check_address(target, address, self._policy)
        return found

    def check(self, target: Target) -> None:
        """Judge the host when a subscription is created: as ``addresses``, but a resolver that is down is no reason
        to refuse, because each connection is judged again.
        """
        try:
            self.addresses(target)
        except HostNotFound as exc:
            if exc.is_final:
                raise WebhookUrlRejected(str(exc)) from None

    def _remember(self, host: str, now: float, found: tuple[Address, ...]) -> None:
        if len(self._cache) >= CACHE_NAMES_MAX:
            self._cache.clear()
        self._cache[host] = (now + CACHE_S, found)
