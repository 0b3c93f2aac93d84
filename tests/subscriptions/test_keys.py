"""Signing keys and tokens: what is published, what outlives a restart, and how keys are rotated (6.5, 12.9)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from durable_streams.protocol.errors import DocumentChanged
from durable_streams.protocol.subscriptions.errors import TokenExpired, TokenInvalid
from durable_streams.protocol.subscriptions.requests import Grant
from durable_streams.storage.files import FileStorage
from durable_streams.streams.internal.documents import Document, TransientDocuments
from durable_streams.subscriptions.tokens import Tokens
from durable_streams.subscriptions.webhooks.keys import (
    JWKS_AGE_S,
    KEY,
    REPLAY_WINDOW_S,
    REREAD_S,
    Keys,
    sign_webhook,
)
from tests.clock import Clock
from tests.subscriptions.conftest import OpenSubscribed
from tests.subscriptions.driving import Subscribed, error_of

NOW = 1_800_000_000.0


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def records() -> TransientDocuments:
    return TransientDocuments()


@pytest.fixture
def keys(records: TransientDocuments, clock: Clock) -> Keys:
    return Keys(records, clock)


def kids(keys: Keys) -> list[str]:
    return [key.kid for key in keys.published()]


def test_r40_the_key_set_over_http(server: Subscribed) -> None:
    response = server.ask("GET", "jwks.json")
    assert response.status_int == 200
    assert response.content_type == "application/jwk-set+json"
    assert response.headers["Cache-Control"] == "public, max-age=300"
    (key,) = response.json["keys"]
    assert key.keys() == {"kty", "crv", "kid", "use", "alg", "x"}
    assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("OKP", "Ed25519", "sig", "EdDSA")
    assert len(decode(key["x"])) == 32


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_r41_there_is_one_url_for_the_keys(server: Subscribed) -> None:
    """Aliases are allowed and none is served; the URL in a subscription is the one."""
    assert server.get("/.well-known/jwks.json").status_int == 404


def test_r42_a_key_keeps_its_id_and_no_two_have_the_same(keys: Keys, clock: Clock) -> None:
    seen: dict[str, str] = {}
    for _ in range(20):
        keys.rotate()
        for key in keys.published():
            assert seen.setdefault(key.kid, key.jwk["x"]) == key.jwk["x"]
        clock.now += JWKS_AGE_S
    assert len(seen) == 21


def test_r43_the_id_is_the_thumbprint_of_the_key(keys: Keys) -> None:
    key = keys.active()
    thumbprint = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": key.jwk["x"]}, separators=(",", ":"))
    assert key.kid.startswith("ds_")
    assert decode(key.kid.removeprefix("ds_")) == sha256(thumbprint.encode()).digest()


def test_r44_no_answer_and_no_stream_shows_a_private_key(server: Subscribed) -> None:
    server.ask("GET", "jwks.json")
    document = server.store.documents.load(KEY)
    assert document is not None
    seed = json.loads(document.body)["signing"][0]["seed"]
    assert seed not in server.ask("GET", "jwks.json").text
    for name in ("__ds/keys", "__ds%2Fkeys"):
        assert server.get(name).status_int in (404, 405)


@pytest.mark.parametrize("durable", [True, False])
def test_r45_keys_and_tokens_outlive_a_restart(
    open_server: OpenSubscribed, tmp_path: Path, durable: bool
) -> None:
    first = open_server(FileStorage(tmp_path, durable=durable))
    first.subscribe()
    first.create("events/a", 1)
    told = first.claim()
    before = first.ask("GET", "jwks.json").json
    first.close()
    second = open_server(FileStorage(tmp_path, durable=durable))
    assert second.ask("GET", "jwks.json").json == before
    assert second.ack(told).json == {"ok": True, "next_wake": False}


def test_r46_a_new_key_is_published_before_it_signs_and_the_old_one_after_it_has(
    keys: Keys, clock: Clock
) -> None:
    old = keys.active()
    new, is_new = keys.rotate()
    assert is_new
    assert new.signs_from == NOW + JWKS_AGE_S
    assert (keys.active().kid, kids(keys)) == (old.kid, [old.kid, new.kid])
    clock.now = new.signs_from - 0.001
    assert keys.active().kid == old.kid
    clock.now = new.signs_from
    assert (keys.active().kid, kids(keys)) == (new.kid, [old.kid, new.kid])
    # Everything that the old key has signed is outside every receiver's window.
    clock.now = new.signs_from + REPLAY_WINDOW_S + JWKS_AGE_S - 0.001
    assert kids(keys) == [old.kid, new.kid]
    clock.now += 0.001
    assert kids(keys) == [new.kid]


def test_r46_the_private_part_of_a_spent_key_is_not_kept(
    keys: Keys, clock: Clock, records: TransientDocuments
) -> None:
    old = keys.active()
    new, _ = keys.rotate()
    clock.now = new.signs_from + REPLAY_WINDOW_S + JWKS_AGE_S
    keys.rotate()
    document = records.load(KEY)
    assert document is not None
    assert old.kid.encode() not in document.body


def test_rotating_twice_at_once_makes_one_key(keys: Keys, clock: Clock) -> None:
    new, _ = keys.rotate()
    assert keys.rotate() == (new, False)
    clock.now = new.signs_from
    other, is_new = keys.rotate()
    assert (is_new, other.kid != new.kid) == (True, True)


def test_another_process_signs_with_a_new_key_in_time(records: TransientDocuments, clock: Clock) -> None:
    here, elsewhere = Keys(records, clock), Keys(records, clock)
    assert here.active().kid == elsewhere.active().kid
    new, _ = elsewhere.rotate()
    # The key set is read at once, the signing key some time before it signs.
    assert new.kid in kids(here)
    assert REREAD_S < JWKS_AGE_S
    clock.now = new.signs_from
    assert here.active().kid == new.kid


def test_two_processes_that_make_the_first_key_agree_on_one(clock: Clock) -> None:
    class Late(TransientDocuments):
        """Another process makes the document between the look and the save."""

        def load(self, key: str) -> Document | None:
            found = super().load(key)
            if found is None and not self.was_made:
                self.was_made = True
                self.other = Keys(self, clock).active().kid
            return found

        was_made = False

    records = Late()
    assert Keys(records, clock).active().kid == records.other


def test_a_document_that_never_holds_still_is_given_up(clock: Clock) -> None:
    class Restless(TransientDocuments):
        def save(self, key: str, body: bytes, revision: str | None) -> str:
            raise DocumentChanged(key)

    with pytest.raises(DocumentChanged):
        Keys(Restless(), clock).current()


def test_a_signature_is_over_the_time_and_the_bytes(keys: Keys) -> None:
    key = keys.active()
    said = dict(part.split("=", 1) for part in sign_webhook(key, b"body", NOW + 0.9).split(","))
    assert (said["t"], said["kid"]) == ("1800000000", key.kid)
    public = Ed25519PublicKey.from_public_bytes(decode(key.jwk["x"]))
    public.verify(decode(said["ed25519"]), b"1800000000.body")


def test_rotating_over_http(server: Subscribed) -> None:
    before = server.ask("GET", "jwks.json").json["keys"]
    made = server.ask("POST", "keys")
    assert made.status_int == 201
    again = server.ask("POST", "keys")
    assert (again.status_int, again.json) == (200, made.json)
    after = server.ask("GET", "jwks.json").json["keys"]
    assert [key["kid"] for key in after] == [before[0]["kid"], made.json["kid"]]


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_r90_a_token_holds_the_subscription_and_the_generation() -> None:
    tokens = Tokens(b"secret", 600)
    token = tokens.make("sub-1 \N{EURO SIGN}", 7)
    assert tokens.read(f"Bearer {token}") == Grant("sub-1 \N{EURO SIGN}", 7)
    assert tokens.make("sub-1", 8) != tokens.make("sub-2", 8) != tokens.make("sub-2", 7)


def test_r91_no_character_of_a_token_can_be_changed() -> None:
    tokens = Tokens(b"secret", 600)
    token = tokens.make("sub-1", 7)
    for at, character in enumerate(token):
        other = token[:at] + ("A" if character != "A" else "B") + token[at + 1 :]
        try:
            grant = tokens.read(f"Bearer {other}")
        except TokenInvalid:
            continue
        # The last character of base64 has bits that mean nothing.
        assert (at, grant) == (len(token) - 1, Grant("sub-1", 7))


def test_r91_a_token_of_another_server_is_none() -> None:
    token = Tokens(b"other", 600).make("sub-1", 7)
    with pytest.raises(TokenInvalid):
        Tokens(b"secret", 600).read(f"Bearer {token}")


def test_r90_a_token_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(b"secret", 600)
    token = tokens.make("sub-1", 7)
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: 4_000_000_000)
    with pytest.raises(TokenExpired):
        tokens.read(f"Bearer {token}")


def test_r90_an_expired_token_is_told_over_http(server: Subscribed, monkeypatch: pytest.MonkeyPatch) -> None:
    server.subscribe()
    server.create("events/a", 1)
    told = server.claim()
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: 4_000_000_000)
    assert error_of(server.ack(told)) == (401, "TOKEN_EXPIRED")
