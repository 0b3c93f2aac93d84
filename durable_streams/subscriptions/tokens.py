"""Bearer tokens of wakes: signed, of one subscription and one generation, and not for ever (sections 7.1, 12.9).

The signature says that this server gave the token out; whether the wake that it is of is still the current one is
decided with the subscription.
"""

from __future__ import annotations

import hashlib
from typing import Final

from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from durable_streams.protocol.subscriptions.errors import TokenExpired, TokenInvalid
from durable_streams.protocol.subscriptions.requests import Grant

_SALT: Final = "durable-streams wake"
_SCHEME: Final = "bearer "
TOKEN_BYTES_MAX: Final = 2048


class Tokens:
    """Makes and reads tokens; ``lifetime_s`` is how old one may be, whatever its lease."""

    def __init__(self, secret: bytes, lifetime_s: int) -> None:
        self._serializer = URLSafeTimedSerializer(
            secret, salt=_SALT, signer_kwargs={"digest_method": hashlib.sha256}
        )
        self._lifetime_s = lifetime_s

    def make(self, subscription_id: str, generation: int) -> str:
        token = self._serializer.dumps([subscription_id, generation])
        return token if isinstance(token, str) else token.decode("ascii")

    def read(self, authorization: str | None) -> Grant:
        """What the header `Authorization` grants; raises TokenInvalid or TokenExpired."""
        if authorization is None or not authorization.lower().startswith(_SCHEME):
            raise TokenInvalid("A bearer token is required")
        token = authorization[len(_SCHEME) :].strip(" ")
        if len(token) > TOKEN_BYTES_MAX:
            raise TokenInvalid("The token is not valid")
        try:
            subscription_id, generation = self._serializer.loads(token, max_age=self._lifetime_s)
        except SignatureExpired:
            raise TokenExpired("The token has expired") from None
        except BadSignature:
            raise TokenInvalid("The token is not valid") from None
        return Grant(subscription_id, generation)
