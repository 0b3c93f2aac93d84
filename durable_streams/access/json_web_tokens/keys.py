"""The keys that verify tokens: from PEM, from a JWK Set (RFC 7517), or a shared secret.

Each key is for one algorithm, which follows from the key and not from a token: so no token can have a public key used
as a secret (RFC 8725, 2.1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt import PyJWK, PyJWTError

from durable_streams.access.watched_file import FileDamaged, WatchedFile

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA", "HS256")
KEYS_MAX: Final = 32
"""Keys of one set: a token that names no key is tried with all of its algorithm."""
SET_BYTES_MAX: Final = 256 * 1024
SECRET_BYTES_MIN: Final = 32
RSA_BITS_MIN: Final = 2048

_PEM_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class KeysDamaged(FileDamaged):
    """These are no keys that could verify a token; the message says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """``kid``: its name, which tokens may use. ``material``: what PyJWT verifies with."""

    kid: str | None
    algorithm: str
    material: Any


class KeySet:
    """The keys of one place at one moment."""

    def __init__(self, keys: Iterable[Key]) -> None:
        """Raises KeysDamaged when there are none."""
        self._keys = tuple(keys)
        if not self._keys:
            raise KeysDamaged(f"there is no key for {', '.join(ALGORITHMS)}")

    def __len__(self) -> int:
        return len(self._keys)

    def knows(self, kid: str | None) -> bool:
        """Whether a token with this ``kid`` can be of one of these keys."""
        return any(_may_be(key, kid) for key in self._keys)

    def candidates(self, kid: str | None, algorithm: object) -> Iterator[Key]:
        """The keys that may have signed a token."""
        return (key for key in self._keys if key.algorithm == algorithm and _may_be(key, kid))


class KeyFile:
    """The keys of a file, as it is now."""

    def __init__(self, path: Path) -> None:
        """Raises KeysDamaged, or OSError."""
        self._file = WatchedFile(path, read_key_file)
        self.current = self._file.current

    def look_again(self) -> None:
        """A token is of an unknown key: the file may have changed just now."""
        self._file.look()


def read_key_file(path: Path) -> KeySet:
    """The keys of a file, whose form is found out; raises KeysDamaged, or OSError."""
    try:
        return KeySet(_keys_in(path.read_bytes().strip()))
    except (KeysDamaged, PyJWTError, ValueError) as exc:
        raise KeysDamaged(f"{path}: {exc}") from exc


def parse_jwk_set(text: bytes, *, secrets: bool) -> list[Key]:
    """The usable keys of a JWK Set, those for other uses and algorithms left out.

    ``secrets``: shared secrets count too, as they must not where everybody can read them. Raises KeysDamaged.
    """
    try:
        document = json.loads(text)
        entries = document["keys"]
        if not isinstance(entries, list):
            raise KeysDamaged("its keys are no list")
        _check_count(entries)
        return [key for entry in entries if (key := _of_jwk(entry)) and (secrets or key.algorithm != "HS256")]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise KeysDamaged(f"it is no JWK Set: {exc!r}") from exc


def _may_be(key: Key, kid: str | None) -> bool:
    return kid is None or key.kid is None or key.kid == kid


def _check_count(found: Sized) -> None:
    # Before they are read: that takes up to 100 us for each.
    if len(found) > KEYS_MAX:
        raise KeysDamaged(f"it has {len(found)} keys, and {KEYS_MAX} are the limit")


def _keys_in(data: bytes) -> list[Key]:
    if len(data) > SET_BYTES_MAX:
        raise KeysDamaged(f"it is longer than {SET_BYTES_MAX} bytes")
    if data.startswith(b"{"):
        return parse_jwk_set(data, secrets=True)
    if b"-----BEGIN" in data:
        blocks = list(_PEM_BLOCK.finditer(data))
        _check_count(blocks)
        return [_of_pem(found[1].decode(), found[0]) for found in blocks]
    return [Key(None, _algorithm(data), data)]


def _of_pem(label: str, block: bytes) -> Key:
    if "PRIVATE" in label:
        raise KeysDamaged("it has a private key; give the server the public one alone")
    is_certificate = label == "CERTIFICATE"
    material: object = (
        load_pem_x509_certificate(block).public_key() if is_certificate else load_pem_public_key(block)
    )
    return Key(None, _algorithm(material), material)


def _of_jwk(entry: Any) -> Key | None:
    """A key for signatures with an algorithm that is supported; None for any other."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    if "d" in entry:
        raise KeysDamaged("it has a private key; the server needs the public one alone")
    try:
        found = PyJWK(entry)
        algorithm = _algorithm(found.key)
    except (PyJWTError, KeysDamaged, ValueError, KeyError, TypeError):
        return None
    kid = entry.get("kid")
    if found.algorithm_name != algorithm or not isinstance(kid, str | None):
        return None
    return Key(kid, algorithm, found.key)


def _algorithm(material: object) -> str:
    """The one algorithm that a key is for; raises KeysDamaged when it is for none that is supported."""
    match material:
        case RSAPublicKey():
            if material.key_size < RSA_BITS_MIN:
                raise KeysDamaged(f"an RSA key has {material.key_size} bits; {RSA_BITS_MIN} are needed")
            return "RS256"
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return "ES256"
        case Ed25519PublicKey():
            return "EdDSA"
        case bytes():
            if len(material) < SECRET_BYTES_MIN:
                raise KeysDamaged(f"a shared secret has {len(material)} bytes; {SECRET_BYTES_MIN} are needed")
            return "HS256"
    raise KeysDamaged("a key is neither RSA, nor of the curves P-256 and Ed25519, nor a shared secret")
