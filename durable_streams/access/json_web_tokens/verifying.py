"""Tokens to grants: the signature, the times, who has issued a token and for whom, and what its claims allow.

Verifying costs 100 to 350 us, so the grant of a token is remembered for as long as the keys stay the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Any, Final, Protocol

import jwt

from durable_streams.access.grants import EVERYTHING, SCOPES, Grant, check_pattern
from durable_streams.access.json_web_tokens.keys import ALGORITHMS, Key, KeySet

TOKEN_BYTES_MAX: Final = 8192
PATTERNS_MAX: Final = 64
"""Patterns of one token; one with more is refused."""
GRANTS_KEPT: Final = 4096

# PyJWT lets through what a claim of a strange type or depth raises.
_REFUSED: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)

log = logging.getLogger("durable_streams.access")


class KeySource(Protocol):
    """Where keys come from."""

    def current(self) -> KeySet:
        """The keys as they are now: another object when they have changed. Raises Unavailable."""

    def look_again(self) -> None:
        """A token is of a key that is not among them, so there may be newer ones."""


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What claims have to say. ``streams_claim`` empty: tokens are for all streams."""

    issuer: str = ""
    audience: tuple[str, ...] = ()
    leeway_s: float = 0.0
    scope_claim: str = "scope"
    streams_claim: str = "streams"


class JsonWebTokens:
    """The grants of tokens."""

    def __init__(self, source: KeySource, rules: ClaimRules, clock: Callable[[], float] = time) -> None:
        """``clock`` gives seconds since 1970."""
        self._source = source
        self._rules = rules
        self._clock = clock
        self._known: dict[str, tuple[KeySet, Grant]] = {}

    def grant_of(self, token: str) -> Grant | None:
        """What ``token`` grants now: None for one that is not valid. Raises Unavailable while there are no keys."""
        keys = self._source.current()
        known = self._known.get(token)
        if known is None or known[0] is not keys:
            grant = self._verify(token, keys) if len(token) <= TOKEN_BYTES_MAX else None
            if grant is None:
                self._known.pop(token, None)
                return None
            # By newer keys, perhaps: then it is verified once more.
            self._remember(token, keys, grant)
            return grant
        grant = known[1]
        return grant if self._clock() < grant.expires_at else None

    def _remember(self, token: str, keys: KeySet, grant: Grant) -> None:
        if len(self._known) >= GRANTS_KEPT:
            del self._known[next(iter(self._known))]
        self._known[token] = keys, grant

    def _verify(self, token: str, keys: KeySet) -> Grant | None:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                return None
            claims = self._claims(token, header, keys)
            if claims is None and (header.get("kid") is None or not keys.knows(header["kid"])):
                self._source.look_again()
                newer = self._source.current()
                claims = self._claims(token, header, newer) if newer is not keys else None
            return None if claims is None else self._grant(claims)
        except _REFUSED as exc:
            log.debug("a token is refused: %s", exc)
            return None

    def _claims(self, token: str, header: dict[str, Any], keys: KeySet) -> dict[str, Any] | None:
        """None where no key has signed the token; raises what PyJWT finds wrong with its claims."""
        for key in keys.candidates(header.get("kid"), header["alg"]):
            try:
                return self._decode(token, key)
            except jwt.InvalidSignatureError:
                continue
        return None

    def _decode(self, token: str, key: Key) -> dict[str, Any]:
        rules = self._rules
        return jwt.decode(
            token,
            key.material,
            algorithms=[key.algorithm],
            issuer=rules.issuer or None,
            audience=rules.audience or None,
            leeway=rules.leeway_s,
            # A token without an end could never be taken back.
            options={"require": ["exp"], "enforce_minimum_key_length": True},
        )

    def _grant(self, claims: dict[str, Any]) -> Grant:
        """Raises ValueError or TypeError for claims of another form."""
        rules = self._rules
        scopes = _texts(claims.get(rules.scope_claim, ""))
        streams = _texts(claims.get(rules.streams_claim, "")) if rules.streams_claim else [EVERYTHING]
        if len(streams) > PATTERNS_MAX:
            raise ValueError(f"it has more than {PATTERNS_MAX} patterns")
        for pattern in streams:
            check_pattern(pattern)
        principal = claims.get("sub") or claims.get("iss") or ""
        return Grant(
            str(principal),
            [scope for scope in scopes if scope in SCOPES],
            streams,
            int(claims["exp"]) + rules.leeway_s,
        )


def _texts(claim: Any) -> list[str]:
    """A list of texts, or one text with blanks between them (RFC 8693, 4.2)."""
    if isinstance(claim, str):
        return claim.split()
    if not isinstance(claim, list) or not all(isinstance(text, str) for text in claim):
        raise TypeError("scopes and patterns have to be texts")
    return claim
