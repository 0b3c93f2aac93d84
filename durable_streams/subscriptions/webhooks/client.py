"""One webhook delivery over HTTP: a POST to a checked address, its answer read as far as it matters (section 7.1).

urllib3 keeps the connections. It is handed the address that was checked, and the name for TLS and for the Host
header, so it looks up no name itself; it follows no redirect, repeats nothing and knows no proxy variables.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv6Address
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from durable_streams import __version__
from durable_streams.eventloop.deadline import deadline
from durable_streams.eventloop.threads import Threads, waiting_is_safe
from durable_streams.protocol.subscriptions.errors import WebhookUrlRejected
from durable_streams.protocol.subscriptions.targets import Address, Target, WebhookPolicy, parse_target
from durable_streams.subscriptions.dispatching.delivering import DeliveryFailed
from durable_streams.subscriptions.webhooks.resolving import HostNotFound, Resolver

ANSWER_BYTES_MAX: Final = 64 * 1024
CONNECTIONS_PER_HOST: Final = 16
HOSTS_MAX: Final = 256
"""Receivers whose idle connections are kept."""
THREADS_MAX: Final = 16
"""Deliveries at once in a process whose sockets gevent has not patched."""

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    # What is compressed could grow beyond every bound.
    "Accept-Encoding": "identity",
    "User-Agent": f"durable-streams-server/{__version__}",
}


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """``done``: the receiver has finished; otherwise it has taken the wake and will call back."""

    done: bool


class WebhookClient:
    """Delivers to many receivers and keeps their connections. Use it from greenlets of one thread."""

    def __init__(
        self, policy: WebhookPolicy, ca_path: Path | None = None, resolver: Resolver | None = None
    ) -> None:
        """``ca_path``: a PEM file with authorities that receivers' certificates may be of, beside the system's."""
        self._policy = policy
        self._resolver = resolver or Resolver(policy)
        self._threads = Threads(THREADS_MAX, beside_loop=not waiting_is_safe())
        context = ssl.create_default_context()
        if ca_path is not None:
            context.load_verify_locations(ca_path)
        self._pools = urllib3.PoolManager(
            num_pools=HOSTS_MAX,
            maxsize=CONNECTIONS_PER_HOST,
            block=True,
            retries=False,
            ssl_context=context,
        )

    def check(self, url: str) -> None:
        """Raise WebhookUrlRejected unless webhooks may be sent to ``url``. Waits for the resolver."""
        target = parse_target(url, self._policy)
        self._threads.run(self._resolver.check, target)

    def post(
        self, url: str, body: bytes, signature: str, timeout_s: float, further: Mapping[str, str] = NO_HEADERS
    ) -> WebhookAnswer:
        """Send one webhook and wait for its answer; raises DeliveryFailed, after ``timeout_s`` at the latest.

        ``further``: headers beside its own.
        """

        def too_slow() -> DeliveryFailed:
            return DeliveryFailed(f"no answer within {timeout_s:g} s")

        headers = {**further, **_HEADERS, "Webhook-Signature": signature}
        with deadline(timeout_s, too_slow):
            return self._threads.run(self._post, url, body, headers, timeout_s)

    def close(self) -> None:
        """Close what is idle; deliveries under way are for their callers to end."""
        self._pools.clear()
        self._threads.close()

    def _post(self, url: str, body: bytes, headers: dict[str, str], timeout_s: float) -> WebhookAnswer:
        try:
            target = parse_target(url, self._policy)
            addresses = self._resolver.addresses(target)
        except (WebhookUrlRejected, HostNotFound) as exc:
            raise DeliveryFailed(getattr(exc, "detail", str(exc))) from None
        headers["Host"] = _host_header(target)
        for last, address in _with_last(addresses):
            try:
                return self._post_to(address, target, body, headers, timeout_s)
            except (NewConnectionError, ConnectTimeoutError) as exc:
                # Nothing was sent, so the next address of the name is as good.
                if last:
                    raise DeliveryFailed(
                        f"no connection to {target.host}:{target.port} ({_reason(exc)})"
                    ) from None
            except (HTTPError, OSError) as exc:
                raise DeliveryFailed(f"the delivery broke off ({_reason(exc)})") from None
        raise DeliveryFailed(f"the host {target.host!r} has no address")

    def _post_to(
        self, address: Address, target: Target, body: bytes, headers: dict[str, str], timeout_s: float
    ) -> WebhookAnswer:
        pool = self._pool(address, target)
        response = pool.urlopen(
            "POST",
            target.path,
            body=body,
            headers=headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(total=timeout_s),
            pool_timeout=ceil(timeout_s),
            preload_content=False,
            decode_content=False,
        )
        with _read_or_closed(response):
            if not 200 <= response.status < 300:
                raise DeliveryFailed(f"the receiver answered {_status_line(response.status)}")
            return WebhookAnswer(_says_done(_read(response)))

    def _pool(self, address: Address, target: Target) -> urllib3.HTTPConnectionPool:
        host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
        # The certificate must be for the name, not for the address.
        tls = {"server_hostname": target.host} if target.scheme == "https" else None
        return self._pools.connection_from_host(host, target.port, target.scheme, pool_kwargs=tls)


@contextmanager
def _read_or_closed(response: urllib3.BaseHTTPResponse) -> Iterator[None]:
    """A connection whose answer was read to its end is used again; any other is closed."""
    try:
        yield
    finally:
        if response.closed or response.isclosed():  # type: ignore[attr-defined]
            response.release_conn()
        else:
            response.close()


def _read(response: urllib3.BaseHTTPResponse) -> bytes | None:
    """The body, or None when it is longer than what is read of it; raises HTTPError when it ends early."""
    body = b""
    while len(body) <= ANSWER_BYTES_MAX:
        # Only the read that finds nothing more looks whether all has arrived.
        piece = response.read(ANSWER_BYTES_MAX + 1 - len(body), decode_content=False)
        if not piece:
            return body
        body += piece
    return None


def _says_done(body: bytes | None) -> bool:
    try:
        answer: Any = json.loads(body or b"null")
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and answer.get("done") is True


def _with_last(addresses: tuple[Address, ...]) -> Iterator[tuple[bool, Address]]:
    for index, address in enumerate(addresses, 1):
        yield index == len(addresses), address


def _host_header(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    usual = 443 if target.scheme == "https" else 80
    return host if target.port == usual else f"{host}:{target.port}"


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _reason(exc: Exception) -> str:
    cause = exc.__cause__ or exc.__context__
    return str(getattr(cause, "strerror", None) or cause or exc)
