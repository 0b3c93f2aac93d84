"""A JWK Set from a URL: kept for a while, fetched again in the background, and early when a token names a new key.

The loop never waits: a fetch runs in a greenlet of its own, and only those requests wait for it that cannot be decided
without it. What tokens say causes one fetch in an interval at the most.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Final

import gevent
import urllib3
from urllib3.exceptions import HTTPError

from durable_streams.access.json_web_tokens.keys import SET_BYTES_MAX, KeysDamaged, KeySet, parse_jwk_set
from durable_streams.eventloop.deadline import deadline
from durable_streams.eventloop.threads import Threads, waiting_is_safe
from durable_streams.protocol.errors import Unavailable

FETCH_S_MAX: Final = 5.0
"""After this long a fetch has failed."""

log = logging.getLogger("durable_streams.access")


class FetchFailed(Exception):
    """There is no usable answer; the message says why."""


class JwkSetUrl:
    """The keys of a URL. Use it from greenlets of one thread."""

    def __init__(
        self,
        url: str,
        *,
        cache_s: float,
        retry_s: float,
        fetch: Callable[[str], bytes] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``cache_s``: how old keys become. ``retry_s``: the least time between two fetches."""
        self._url = url
        self._cache_s = cache_s
        self._retry_s = retry_s
        self._fetch = fetch
        self._clock = clock
        self._keys: KeySet | None = None
        self._text = b""
        self._is_failing = False
        self._due_at = self._allowed_at = float("-inf")
        self._running: gevent.Greenlet[[], None] | None = None

    def current(self) -> KeySet:
        """The newest keys; waits for the first ones. Raises Unavailable while there never were any."""
        if self._keys is None:
            self.look_again()
            if self._keys is None:
                raise Unavailable(f"the keys of tokens cannot be fetched from {self._url}")
        elif self._clock() >= self._due_at:
            self._begin()
        return self._keys

    def look_again(self) -> None:
        """A token is of an unknown key: fetch, unless that was done a moment ago, and wait for it."""
        running = self._begin()
        if running is not None:
            running.join()

    def _begin(self) -> gevent.Greenlet[[], None] | None:
        """The fetch that is under way, or a new one if it may begin by now."""
        if self._running is None and self._clock() >= self._allowed_at:
            self._allowed_at = self._clock() + self._retry_s
            self._running = gevent.spawn(self._refresh)
        return self._running

    def _refresh(self) -> None:
        try:
            if self._fetch is None:
                # Not before: its threads belong to the process that serves.
                self._fetch = Fetcher()
            self._take(self._fetch(self._url))
        except (FetchFailed, KeysDamaged) as exc:
            self._due_at = self._allowed_at
            # A URL that is down is one record, not one for each try.
            if not self._is_failing:
                log.error("the keys of before stay in force, %s: %s", self._url, exc)
            self._is_failing = True
        finally:
            self._running = None

    def _take(self, text: bytes) -> None:
        if text != self._text:
            # The same text keeps the same set, and with it what was verified by it.
            self._keys, self._text = KeySet(parse_jwk_set(text, secrets=False)), text
            log.info("%d keys of tokens from %s", len(self._keys), self._url)
        self._due_at = self._clock() + self._cache_s
        self._is_failing = False


class Fetcher:
    """GET over urllib3: no redirect, no second try, and an end in time and length."""

    def __init__(self) -> None:
        self._threads = Threads(1, beside_loop=not waiting_is_safe())
        self._pool = urllib3.PoolManager(
            num_pools=1, retries=False, ssl_context=ssl.create_default_context(), timeout=FETCH_S_MAX
        )

    def __call__(self, url: str) -> bytes:
        """The body; raises FetchFailed."""
        with deadline(FETCH_S_MAX, lambda: FetchFailed(f"no answer within {FETCH_S_MAX:g} s")):
            return self._threads.run(self._get, url)

    def _get(self, url: str) -> bytes:
        try:
            response = self._pool.request(
                "GET", url, headers={"Accept": "application/json"}, redirect=False, preload_content=False
            )
            try:
                text = response.read(SET_BYTES_MAX + 1, decode_content=True)
            finally:
                response.close()
        except (HTTPError, OSError) as exc:
            raise FetchFailed(f"{type(exc).__name__}: {exc}") from exc
        if response.status != 200:
            raise FetchFailed(f"the answer has the status {response.status}")
        if len(text) > SET_BYTES_MAX:
            raise FetchFailed(f"the answer is longer than {SET_BYTES_MAX} bytes")
        return text
