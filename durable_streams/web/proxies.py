"""What a proxy in front says of its client: address, scheme and host. It is believed where the proxy is trusted.

A WSGI application around all others, so that log, rates, ``Location`` and the URLs of callbacks go by the same. It is
there only where ``proxy.trusted`` or ``server.public_url`` is set.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from durable_streams.config.traffic import ProxySettings
from durable_streams.web.response import Environ

HOPS_MAX: Final = 32
"""Proxies that are followed back; no client needs more to be found."""
ADDRESSES_REMEMBERED: Final = 4096
SCHEMES: Final = frozenset({"http", "https"})
X_FORWARDED: Final = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST")
FORWARDED: Final = ("HTTP_FORWARDED",)
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
# RFC 7239, 4: pairs of one element, whose values are tokens or quoted.
_PAIR: Final = re.compile(r'\s*(\w+)=("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*(?:;|$)')
_ELEMENT: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*")+')

Application = Callable[[Environ, Any], Iterable[bytes]]
log = logging.getLogger("durable_streams.web")


class Hop(NamedTuple):
    """What one proxy says of the side that it was asked from; empty where it says nothing."""

    address: str = ""
    scheme: str = ""
    host: str = ""


class ProxyHeaders:
    """Puts what trusted proxies say into the environ, for ``application``."""

    def __init__(self, application: Application, settings: ProxySettings, public_url: str) -> None:
        self._application = application
        self._public = urlsplit(public_url) if public_url else None
        self._is_on = bool(settings.trusted)
        self._networks = tuple(map(ip_network, settings.trusted))
        self._keys = X_FORWARDED if settings.headers == "x-forwarded" else FORWARDED
        self._hops = x_forwarded_hops if settings.headers == "x-forwarded" else forwarded_hops
        self._trusts = lru_cache(ADDRESSES_REMEMBERED)(self._is_trusted)
        self._has_warned = False

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if self._is_on and any(key in environ for key in self._keys):
            peer = environ.get("REMOTE_ADDR") or ""
            if self._trusts(peer):
                self._follow(environ, peer)
            else:
                self._warn(peer)
        if self._public is not None:
            set_origin(environ, self._public.scheme, self._public.netloc)
        return self._application(environ, start_response)

    def _follow(self, environ: Environ, peer: str) -> None:
        """Go back from proxy to proxy, as far as each is trusted."""
        client = Hop(peer)
        for hop in self._hops(environ)[: -HOPS_MAX - 1 : -1]:
            if not self._trusts(client.address):
                break
            client = Hop(hop.address, hop.scheme or client.scheme, hop.host or client.host)
            if not hop.address:
                # An address that is hidden or wrong: nobody can tell what stands before it.
                break
        environ["REMOTE_ADDR"] = client.address or peer
        scheme, host = client.scheme.lower(), client.host
        set_origin(environ, scheme if scheme in SCHEMES else "", host if _HOST.fullmatch(host) else "")

    def _is_trusted(self, address: str) -> bool:
        try:
            found = ip_address(address.partition("%")[0])
        except ValueError:
            # The peer of a Unix-domain socket, which only those can reach who may write to its file.
            return address in ("", "unix")
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)

    def _warn(self, peer: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("what %s says of its client is ignored: it is not in proxy.trusted", peer)


def x_forwarded_hops(environ: Environ) -> list[Hop]:
    """By X-Forwarded-For, -Proto and -Host; the last proxy's word on scheme and host counts for all."""
    scheme = environ.get("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2].strip()
    host = environ.get("HTTP_X_FORWARDED_HOST", "").rpartition(",")[2].strip()
    parts = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    return [Hop(address_in(part), scheme, host) for part in parts]


def forwarded_hops(environ: Environ) -> list[Hop]:
    """By the header Forwarded (RFC 7239); an element that is wrong is one without an address."""
    elements = _ELEMENT.findall(environ.get("HTTP_FORWARDED", ""))
    return [
        _hop({name.lower(): _unquoted(value) for name, value in _PAIR.findall(text)}) for text in elements
    ]


def _hop(pairs: dict[str, str]) -> Hop:
    return Hop(address_in(pairs.get("for", "")), pairs.get("proto", ""), pairs.get("host", ""))


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def address_in(text: str) -> str:
    """The address of ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``; empty for any other."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        return str(ip_address(bare))
    except ValueError:
        return ""


def set_origin(environ: Environ, scheme: str, authority: str) -> None:
    """Let the request have come to ``scheme://authority``; an empty one stays as it is."""
    if scheme:
        environ["wsgi.url_scheme"] = scheme
    if authority:
        environ["HTTP_HOST"] = authority
        parts = urlsplit(f"//{authority}")
        environ["SERVER_NAME"] = parts.hostname or authority
        default = "443" if environ["wsgi.url_scheme"] == "https" else "80"
        environ["SERVER_PORT"] = authority.rpartition(":")[2] if _has_port(authority) else default


def _has_port(authority: str) -> bool:
    return bool(re.search(r":[0-9]+$", authority))
