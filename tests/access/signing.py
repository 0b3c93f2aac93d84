"""Issuers of JSON Web Tokens: key pairs, their public halves in every form, and tokens."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from time import time
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from jwt.algorithms import get_default_algorithms

SECRET = b"0123456789abcdef0123456789abcdef"


class Issuer:
    """Has one key, and signs with it."""

    def __init__(self, algorithm: str, kid: str | None = None) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.private = _new_key(algorithm)

    def token(self, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Valid for an hour, unless the claims say otherwise; a claim that is None is left out."""
        all_claims = {"sub": "ann", "exp": int(time()) + 3600, **claims}
        given = {name: value for name, value in all_claims.items() if value is not None}
        named = {"kid": self.kid} if self.kid is not None else {}
        return jwt.encode(given, self.private, self.algorithm, headers=named | (headers or {}))

    @property
    def public(self) -> Any:
        return self.private if isinstance(self.private, bytes) else self.private.public_key()

    @property
    def pem(self) -> bytes:
        """The public key, or the secret itself."""
        if isinstance(self.private, bytes):
            return self.private
        return bytes(self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    @property
    def private_pem(self) -> bytes:
        return bytes(self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def jwk(self, **more: Any) -> dict[str, Any]:
        document = get_default_algorithms()[self.algorithm].to_jwk(self.public, as_dict=True)
        document.pop("key_ops", None)
        return {**document, **({"kid": self.kid} if self.kid is not None else {}), **more}


def jwk_set(*issuers: Issuer) -> bytes:
    return json.dumps({"keys": [issuer.jwk() for issuer in issuers]}).encode()


@cache
def issuer(algorithm: str, kid: str | None = None) -> Issuer:
    """The same one for the same arguments: RSA keys take long to make."""
    return Issuer(algorithm, kid)


def certified(signer: Issuer) -> tuple[bytes, Issuer]:
    """A certificate in PEM that has the key of ``signer``."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(
        name, name, signer.public, 1, now - timedelta(days=1), now + timedelta(days=1)
    ).sign(signer.private, SHA256())
    return built.public_bytes(Encoding.PEM), signer


def _new_key(algorithm: str) -> Any:
    if algorithm.startswith("RS"):
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "ES384":
        return ec.generate_private_key(ec.SECP384R1())
    return SECRET if algorithm == "HS256" else ed25519.Ed25519PrivateKey.generate()
