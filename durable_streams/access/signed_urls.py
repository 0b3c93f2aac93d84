"""URLs that let whoever has them read one stream for a while: for an ``EventSource``, which can send no header.

The signature is over the method, the end and the stream's name, so none of them can be changed. Nothing is stored; what
ends URLs early is to take their key out of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from time import time
from typing import Any, Final
from urllib.parse import quote, urlencode

from itsdangerous import Signer

from durable_streams.access.grants import READ, Grant
from durable_streams.access.watched_file import FileDamaged, WatchedFile

PARAMETER: Final = "token"
PREFIX: Final = "dsu_"
"""So that a scanner for leaked secrets recognises one."""
METHODS: Final = ("GET", "HEAD")
LIFETIME_S_MAX: Final = 86_400
KEYS_MAX: Final = 8
KEY_CHARACTERS_MIN: Final = 32
TOKEN_CHARACTERS_MAX: Final = 128
_SALT: Final = b"durable-streams signed URL"
_PART: Final = f"{PARAMETER}="


class UrlKeysDamaged(FileDamaged):
    """The file has no usable keys."""


class UrlGrant(Grant):
    """What a signed URL allows; the signature was for this very stream."""

    def __init__(self, expires_at: float) -> None:
        super().__init__("signed URL", (READ,), (), expires_at)

    def allows(self, scope: str, name: str) -> bool:
        return scope == READ


class UrlSigner:
    """Signs and checks with the keys of a file, as it is now."""

    def __init__(
        self, keys_path: Path, lifetime_s_max: int = LIFETIME_S_MAX, clock: Callable[[], float] = time
    ) -> None:
        """``clock`` gives seconds since 1970. Raises UrlKeysDamaged, or OSError."""
        self._signer = WatchedFile(Path(keys_path), _read_signer)
        self._lifetime_s_max = lifetime_s_max
        self._clock = clock
        self.look = self._signer.look

    def token(self, name: str, lifetime_s: int, method: str = "GET") -> str:
        """The value of the parameter ``token`` for reads of the stream ``name`` until ``lifetime_s`` seconds from now.

        Raises ValueError for another method than GET and HEAD, or a lifetime of none or too many seconds.
        """
        if method not in METHODS:
            raise ValueError(f"a signed URL is for one of {', '.join(METHODS)}, not for {method}")
        if not 1 <= lifetime_s <= self._lifetime_s_max:
            raise ValueError(f"a signed URL is valid for 1 to {self._lifetime_s_max} seconds")
        end = str(int(self._clock()) + lifetime_s)
        signature = self._signer.current().get_signature(_signed(method, end, name))
        return f"{PREFIX}{end}.{signature.decode()}"

    def url(self, root: str, name: str, lifetime_s: int, method: str = "GET", **parameters: str) -> str:
        """The whole URL; ``root`` is where streams are, ``parameters`` such as ``offset="-1", live="sse"``."""
        token = self.token(name, lifetime_s, method)
        return f"{root.rstrip('/')}/{quote(name)}?{urlencode({**parameters, PARAMETER: token})}"

    def grant_of(self, token: str, name: str, method: str) -> Grant | None:
        """What ``token`` grants now for this request: None for one that is wrong, over, or valid for too long."""
        end, _, signature = token.removeprefix(PREFIX).partition(".")
        if len(token) > TOKEN_CHARACTERS_MAX or not (end.isascii() and end.isdecimal()):
            return None
        if not self._signer.current().verify_signature(_signed(method, end, name), signature):
            return None
        seconds_left = int(end) - self._clock()
        return UrlGrant(int(end)) if 0 < seconds_left <= self._lifetime_s_max else None


def url_token(environ: Mapping[str, Any]) -> str | None:
    """The one token in the query of a request; None where there is none, or more than one."""
    query: str = environ.get("QUERY_STRING", "")
    if _PART not in query:
        return None
    found = [part[len(_PART) :] for part in query.split("&") if part.startswith(_PART)]
    return found[0] if len(found) == 1 else None


def read_url_keys(path: Path) -> list[str]:
    """The keys of a file, one a line, the newest at the end; raises UrlKeysDamaged, or OSError."""
    try:
        keys = [line.strip() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    except UnicodeDecodeError as exc:
        raise UrlKeysDamaged(f"{path} is no file of keys: {exc.reason}") from None
    if not 0 < len(keys) <= KEYS_MAX:
        raise UrlKeysDamaged(f"{path} has {len(keys)} keys: there must be 1 to {KEYS_MAX}, one a line")
    if any(len(key) < KEY_CHARACTERS_MIN for key in keys):
        raise UrlKeysDamaged(f"{path} has a key of less than {KEY_CHARACTERS_MIN} characters")
    return keys


def _read_signer(path: Path) -> Signer:
    # It signs with the newest key and checks with all of them, so a key is replaced by adding one.
    return Signer(read_url_keys(path), salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256)


def _signed(method: str, end: str, name: str) -> bytes:
    return f"{method}\n{end}\n{name}".encode()
