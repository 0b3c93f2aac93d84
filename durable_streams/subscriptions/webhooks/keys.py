"""The secrets of the subscriptions: keys that sign webhooks, and the one that signs tokens (sections 6.5 and 12.9).

They are one document, so they last as long as the streams do. A new signing key is published some minutes before it
signs, and the one before it stays published until nothing that it has signed can be accepted any more, so a receiver
that fetches the key set as often as it is told to never meets a key that it does not know.
"""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from durable_streams.protocol.errors import DocumentChanged
from durable_streams.streams.internal.documents import Records

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY: Final = "keys"
"""Of the document."""
JWKS_AGE_S: Final = 300
"""How long a receiver may keep the key set (section 6.5)."""
REPLAY_WINDOW_S: Final = 300
"""How old a signature may be for receivers that follow section 7.1."""
REREAD_S: Final = 60.0
"""How late a process learns of a key that another one has made; far less than it is published before it signs."""
SAVES_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key pair; times are seconds since 1970."""

    kid: str
    seed: bytes
    public: bytes
    signs_from: float
    retired_at: float | None = None
    """When its successor began to sign."""

    @property
    def jwk(self) -> dict[str, str]:
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "kid": self.kid,
            "use": "sig",
            "alg": "EdDSA",
            "x": _base64url(self.public),
        }


@dataclass(frozen=True, slots=True)
class Keyring:
    """All keys at one moment, the oldest first."""

    token_secret: bytes
    signing: tuple[SigningKey, ...]

    def active(self, now: float) -> SigningKey:
        """The key that signs at ``now``."""
        ready = [key for key in self.signing if key.signs_from <= now]
        return ready[-1] if ready else self.signing[0]

    def published(self, now: float) -> list[SigningKey]:
        """What the key set holds at ``now``."""
        return [key for key in self.signing if not _is_spent(key, now)]

    def rotated(self, new: SigningKey, now: float) -> Keyring:
        """With ``new`` as the next key; the private part of a key that no receiver accepts any more goes."""
        kept = [key for key in self.signing if not _is_spent(key, now)]
        kept[-1] = replace(kept[-1], retired_at=new.signs_from)
        return replace(self, signing=(*kept, new))


class Keys:
    """The keys of one storage. They are made when they are first needed."""

    def __init__(self, records: Records, clock: Callable[[], float]) -> None:
        """``clock``: seconds since 1970, as receivers have them."""
        self._records = records
        self._clock = clock
        self._known: tuple[float, Keyring] | None = None

    def current(self) -> Keyring:
        """The keys, read again now and then; raises what a storage that cannot be read or written raises."""
        now = self._clock()
        if self._known is not None and self._known[0] <= now < self._known[0] + REREAD_S:
            return self._known[1]
        return self._remember(self._load_or_make())

    def active(self) -> SigningKey:
        """The key that signs now."""
        return self.current().active(self._clock())

    def published(self) -> list[SigningKey]:
        """What the key set holds now, keys of other processes included."""
        return self._remember(self._load_or_make()).published(self._clock())

    def rotate(self) -> tuple[SigningKey, bool]:
        """Publish a new signing key; gives it back, and True; or the one that waits for its time already, and False."""
        for _ in range(SAVES_MAX):
            keyring, revision = self._load_or_make(), self._revision
            newest, now = keyring.signing[-1], self._clock()
            if newest.signs_from > now:
                return newest, False
            new = make_signing_key(now + JWKS_AGE_S)
            if self._save(keyring.rotated(new, now), revision):
                self._known = None
                return new, True
        raise DocumentChanged(KEY)

    def _load_or_make(self) -> Keyring:
        for _ in range(SAVES_MAX):
            document = self._records.load(KEY)
            if document is not None:
                self._revision: str | None = document.revision
                return _decode(document.body)
            made = Keyring(os.urandom(32), (make_signing_key(self._clock()),))
            if self._save(made, None):
                return made
        raise DocumentChanged(KEY)

    def _save(self, keyring: Keyring, revision: str | None) -> bool:
        try:
            self._revision = self._records.save(KEY, _encode(keyring), revision)
        except DocumentChanged:
            return False
        return True

    def _remember(self, keyring: Keyring) -> Keyring:
        self._known = (self._clock(), keyring)
        return keyring


def make_signing_key(signs_from: float) -> SigningKey:
    """A new pair. Its id is its RFC 7638 thumbprint, so it never names another key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    thumbprint = json.dumps(
        {"crv": "Ed25519", "kty": "OKP", "x": _base64url(public)}, sort_keys=True, separators=(",", ":")
    )
    kid = "ds_" + _base64url(hashlib.sha256(thumbprint.encode("ascii")).digest())
    return SigningKey(kid, private.private_bytes_raw(), public, signs_from)


def sign_webhook(key: SigningKey, body: bytes, now: float) -> str:
    """The value of Webhook-Signature for exactly these bytes (section 7.1)."""
    seconds = str(int(now))
    signature = _private_key(key.seed).sign(seconds.encode("ascii") + b"." + body)
    return f"t={seconds},kid={key.kid},ed25519={_base64url(signature)}"


@lru_cache(maxsize=2)
def _private_key(seed: bytes) -> Ed25519PrivateKey:
    """Kept, since making it takes longer than signing."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed)


def _is_spent(key: SigningKey, now: float) -> bool:
    """Whether every delivery that it has signed lies outside the window in which receivers accept it."""
    return key.retired_at is not None and now >= key.retired_at + REPLAY_WINDOW_S + JWKS_AGE_S


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _encode(keyring: Keyring) -> bytes:
    document = {
        "token_secret": b64encode(keyring.token_secret).decode("ascii"),
        "signing": [
            asdict(key) | {name: b64encode(getattr(key, name)).decode("ascii") for name in ("seed", "public")}
            for key in keyring.signing
        ],
    }
    return json.dumps(document).encode("ascii")


def _decode(body: bytes) -> Keyring:
    document = json.loads(body)
    return Keyring(b64decode(document["token_secret"]), tuple(map(_decode_key, document["signing"])))


def _decode_key(fields: dict[str, Any]) -> SigningKey:
    return SigningKey(
        fields["kid"],
        b64decode(fields["seed"]),
        b64decode(fields["public"]),
        fields["signs_from"],
        fields["retired_at"],
    )
