"""Tokens of somebody else: what verifies them, what their claims allow, and everything that is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

import gevent
import jwt
import pytest

from durable_streams.access.grants import Grant
from durable_streams.access.json_web_tokens import ClaimRules, JsonWebTokens, KeyFile, KeysDamaged
from durable_streams.access.json_web_tokens.keys import ALGORITHMS, KEYS_MAX, read_key_file
from durable_streams.access.json_web_tokens.verifying import GRANTS_KEPT, PATTERNS_MAX, TOKEN_BYTES_MAX
from tests.access.conftest import gates_of
from tests.access.signing import SECRET, Issuer, certified, issuer, jwk_set
from tests.web.conftest import OpenServer
from tests.web.driving import PATIENCE_S, TEXT

ALL = ClaimRules(streams_claim="")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def verifier(path: Path) -> Callable[..., JsonWebTokens]:
    def make(keys: bytes, rules: ClaimRules = ALL, **more: Any) -> JsonWebTokens:
        path.write_bytes(keys)
        return JsonWebTokens(KeyFile(path), rules, **more)

    return make


Verifier = Callable[..., JsonWebTokens]


# -- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", ["file", "set", "set with other keys"])
def test_every_algorithm_is_verified_by_keys_of_every_form(
    verifier: Verifier, algorithm: str, form: str
) -> None:
    kid = None if form == "file" else "one"
    signer = issuer(algorithm, kid)
    others = [issuer(other, f"other {other}") for other in ALGORITHMS]
    keys = {
        "file": signer.pem,
        "set": jwk_set(signer),
        "set with other keys": jwk_set(*others, signer),
    }[form]
    grant = verifier(keys).grant_of(signer.token(scope="read"))
    assert grant is not None
    assert grant.principal == "ann"
    assert grant.allows("read", "a/b")
    assert not grant.allows("write", "a/b")
    if algorithm != "HS256":
        assert verifier(keys).grant_of(Issuer(algorithm, kid).token(scope="read")) is None, "another key"


def test_a_certificate_is_a_key_too(verifier: Verifier) -> None:
    certificate, signer = certified(issuer("ES256"))
    assert verifier(certificate).grant_of(signer.token(scope="read")) is not None


def test_two_keys_in_one_file_verify_tokens_of_both(verifier: Verifier) -> None:
    old, new = issuer("ES256"), Issuer("ES256")
    tokens = verifier(old.pem + b"\n" + new.pem + issuer("EdDSA").pem)
    for signer in (old, new, issuer("EdDSA")):
        assert tokens.grant_of(signer.token(scope="read")) is not None


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_no_secret(verifier: Verifier, algorithm: str) -> None:
    """The confusion of algorithms: a token signed by HMAC with the text of the public key."""
    signer = issuer(algorithm, "one")
    forged = _by_hand({"alg": "HS256", "kid": "one"}, {"exp": time() + 60, "scope": "read"}, signer.pem)
    for keys in (signer.pem, jwk_set(signer)):
        assert verifier(keys).grant_of(forged) is None


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "HS512", "ES384", "RS512", "PS256", "", None, 5, ["ES256"]]
)
def test_no_other_algorithm_is_taken(verifier: Verifier, algorithm: object) -> None:
    claims = {"exp": time() + 60, "scope": "read"}
    for keys in (SECRET, jwk_set(issuer("RS256", "one"))):
        tokens = verifier(keys)
        assert tokens.grant_of(_by_hand({"alg": algorithm}, claims, SECRET)) is None
        assert tokens.grant_of(_by_hand({"alg": algorithm}, claims, SECRET).rpartition(".")[0] + ".") is None


BAD_KEYS: dict[str, bytes] = {
    "empty": b"",
    "short secret": b"x" * 31,
    "no set": b"{}",
    "no list": b'{"keys": 5}',
    "no keys": b'{"keys": []}',
    "no object": b'{"keys": [5]}',
    "broken": b'{"keys": [',
    "deep": b'{"keys":' + b"[" * 100_000,
    "broken PEM": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    "half a PEM": b"-----BEGIN PUBLIC KEY-----\nAAAA",
    "broken certificate": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "private PEM": issuer("ES256").private_pem,
    "private JWK": json.dumps({"keys": [issuer("ES256").jwk(d="AAAA")]}).encode(),
    "other curve": Issuer("ES384").pem,
    "other use": json.dumps({"keys": [issuer("ES256").jwk(use="enc")]}).encode(),
    "other algorithm": json.dumps({"keys": [issuer("RS256").jwk(alg="PS256")]}).encode(),
    "secret in a set too short": json.dumps({"keys": [{"kty": "oct", "k": "AAAA"}]}).encode(),
    "half a JWK": b'{"keys": [{"kty": "RSA", "e": "AQAB"}]}',
    "too many": jwk_set(*[issuer("ES256", str(number)) for number in range(KEYS_MAX + 1)]),
    "too many blocks": issuer("ES256").pem * (KEYS_MAX + 1),
    "too long": b"x" * 1_000_000,
}


@pytest.mark.parametrize("keys", BAD_KEYS.values(), ids=BAD_KEYS)
def test_what_can_verify_nothing_is_refused_by_name(path: Path, keys: bytes) -> None:
    path.write_bytes(keys)
    with pytest.raises(KeysDamaged, match=str(path)):
        read_key_file(path)


def test_a_changed_file_is_in_force_and_a_damaged_one_is_not(
    verifier: Verifier, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = issuer("ES256", "old"), issuer("ES256", "new")
    tokens = verifier(jwk_set(old))
    token = old.token(scope="read")
    assert tokens.grant_of(token) is not None
    path.write_bytes(b"{")
    tokens._source.look_again()
    assert "stay in force" in caplog.text
    assert tokens.grant_of(token) is not None
    path.write_bytes(jwk_set(new))
    assert tokens.grant_of(new.token(scope="read")) is not None, "an unknown key is looked for at once"
    assert tokens.grant_of(token) is None, "also what was verified before"


# -- claims --------------------------------------------------------------------------------------------------------

NOW = int(time())
REFUSED_CLAIMS: dict[str, dict[str, Any]] = {
    "expired": {"exp": NOW - 86_400},
    "no end": {"exp": None},
    "end is no number": {"exp": "soon"},
    "endless": {"exp": float("inf")},
    "end is a list": {"exp": [NOW + 86_400]},
    "not yet": {"nbf": NOW + 86_400},
    "issued later": {"iat": NOW + 86_400},
    "other issuer": {"iss": "https://evil.example"},
    "no issuer": {"iss": None},
    "other audience": {"aud": "other"},
    "no audience": {"aud": None},
    "subject is no text": {"sub": 5},
    "scope is an object": {"scope": {"read": True}},
    "scope is a list of numbers": {"scope": [1]},
    "streams is a number": {"streams": 5},
    "half a wildcard": {"streams": ["a*"]},
    "empty segment": {"streams": "a//b"},
    "too many patterns": {"streams": ["a"] * (PATTERNS_MAX + 1)},
}
STRICT = ClaimRules("https://login.example", ("streams", "more"), 7200.0)
GOOD = {"iss": "https://login.example", "aud": ["streams"], "scope": "read", "streams": "team-a/**"}


@pytest.mark.parametrize("claims", REFUSED_CLAIMS.values(), ids=REFUSED_CLAIMS)
def test_claims_that_are_wrong_or_missing_refuse_a_token(verifier: Verifier, claims: dict[str, Any]) -> None:
    signer = issuer("ES256")
    tokens = verifier(signer.pem, STRICT)
    assert tokens.grant_of(signer.token(**GOOD)) is not None
    claims = {"exp": NOW + 86_400} | GOOD | claims
    token = _signed(
        signer, {"sub": "ann"} | {name: value for name, value in claims.items() if value is not None}
    )
    assert tokens.grant_of(token) is None


def test_the_leeway_is_for_both_ends(verifier: Verifier) -> None:
    signer = issuer("ES256")
    tokens = verifier(signer.pem, STRICT)
    now = int(time())
    grant = tokens.grant_of(signer.token(**GOOD, exp=now - 3600, nbf=now + 3600, iat=now + 3600))
    assert grant is not None
    assert grant.expires_at == now + 3600


def test_a_token_for_an_audience_is_refused_where_none_is_named(verifier: Verifier) -> None:
    signer = issuer("ES256")
    tokens = verifier(signer.pem)
    assert tokens.grant_of(signer.token(scope="read", aud="other")) is None
    assert tokens.grant_of(signer.token(scope="read")) is not None


def test_scopes_and_patterns_are_in_the_claims_that_settings_name(verifier: Verifier) -> None:
    signer = issuer("ES256")
    rules = ClaimRules(scope_claim="permissions", streams_claim="https://streams.example/names")
    tokens = verifier(signer.pem, rules)

    def grant(**claims: Any) -> Grant:
        found = tokens.grant_of(signer.token(**claims))
        assert found is not None
        return found

    names = {"https://streams.example/names": ["team-a/**", "shared/*"]}
    good = grant(permissions=["read", "write", "email"], scope="admin", **names)
    assert good.scopes == {"read", "write"}
    assert good.allows("write", "team-a/x/y")
    assert good.allows("read", "shared/x")
    assert not good.allows("read", "team-b")
    assert not grant(permissions="read").allows("read", "team-a"), "no patterns, no streams"
    assert grant(scope="read", **names).scopes == frozenset()


# -- whole tokens --------------------------------------------------------------------------------------------------


def test_whatever_is_no_token_is_refused(verifier: Verifier) -> None:
    signer = issuer("ES256", "one")
    tokens = verifier(jwk_set(signer))
    good = signer.token(scope="read")
    head, body, signature = good.split(".")
    deep = _text(b"[" * 5000)
    wrong = [
        *("", ".", "..", "...", "x", "a.b.c", "\xe4", "\udcff", good[:-4], good + ".", f"{good}.x"),
        f"{head}.{body}",
        f"{head}.{body}.",
        f".{body}.{signature}",
        f"{head}..{signature}",
        f"{head}.{_text(b'{}')}.{signature}",
        f"{deep}.{body}.{signature}",
        f"{_text(b'[]')}.{body}.{signature}",
        f"{_text(json.dumps({'alg': 'ES256', 'kid': 5}).encode())}.{body}.{signature}",
        f"{_text(json.dumps({'alg': 'ES256', 'kid': ['one']}).encode())}.{body}.{signature}",
        f"{head}.{body}.{signature[:-8]}{'A' * 8}",
    ]
    for token in wrong:
        assert tokens.grant_of(token) is None, token[:80]
    assert tokens.grant_of(good) is not None
    for claims in (b"[]", b"5", b"null", b"\xff", b"[" * 3000):
        assert tokens.grant_of(_with_claims(signer, claims)) is None, claims[:80]
    long = signer.token(scope="read", more="x" * TOKEN_BYTES_MAX)
    assert tokens.grant_of(long) is None


def test_a_grant_is_remembered_and_ends_at_its_time(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time()]
    signer = issuer("ES256")
    tokens = verifier(signer.pem, clock=lambda: now[0])
    token = signer.token(scope="read", exp=int(now[0]) + 60)
    first = tokens.grant_of(token)
    monkeypatch.setattr(jwt, "decode", lambda *_, **__: pytest.fail("verified again"))
    assert tokens.grant_of(token) is first
    now[0] += 61
    assert tokens.grant_of(token) is None


def test_the_memory_of_grants_is_bounded(verifier: Verifier) -> None:
    signer = issuer("HS256")
    tokens = verifier(SECRET)
    for number in range(GRANTS_KEPT + 10):
        tokens._remember(str(number), tokens._source.current(), Grant("", (), (), None))
    assert len(tokens._known) == GRANTS_KEPT
    assert tokens.grant_of(signer.token(scope="read")) is not None
    assert len(tokens._known) == GRANTS_KEPT
    tokens.grant_of("wrong")
    assert "wrong" not in tokens._known


# -- through the gate ----------------------------------------------------------------------------------------------


def test_a_server_obeys_tokens_of_an_issuer(open_server: OpenServer, path: Path) -> None:
    signer = issuer("EdDSA", "one")
    path.write_bytes(jwk_set(signer))
    server = open_server(auth={"mode": "jwt", "jwt_keys_path": str(path)})

    def bearer(**claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {signer.token(**claims)}"}

    writer = bearer(scope="create write openid", streams=["team-a/**"])
    assert server.put("team-a/x", b"x", TEXT | writer).status_int == 201
    assert server.put("team-b/x", b"x", TEXT | writer).status_int == 403
    assert server.get("team-a/x?offset=-1", writer).status_int == 403
    assert server.get("team-a/x?offset=-1").status_int == 401
    reader = bearer(scope="read", streams="team-a/*")
    response = server.get("team-a/x?offset=-1", reader)
    assert (response.status_int, response.body) == (200, b"x")
    assert response.headers["Cache-Control"].startswith("private")
    refused = server.get("team-a/x?offset=-1", bearer(scope="read", streams="**", exp=NOW - 86_400))
    assert refused.status_int == 401
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]


@pytest.mark.parametrize(("live", "status"), [("sse", 200), ("long-poll", 204)])
def test_a_live_read_ends_when_its_token_does(
    open_server: OpenServer, path: Path, live: str, status: int
) -> None:
    signer = issuer("ES256", "one")
    path.write_bytes(jwk_set(signer))
    server = open_server(auth={"mode": "jwt", "jwt_keys_path": str(path), "jwt_leeway_secs": 0.0})
    setup = {"Authorization": f"Bearer {signer.token(scope='create', streams='**')}"}
    server.put("a", b"x", TEXT | setup)
    end = int(time()) + 86_400
    token = signer.token(scope="read", streams="a", exp=end)
    for gate in gates_of(server):
        gate._clock = lambda: end - 0.2
    reader = server.reading(f"a?offset=now&live={live}", {"Authorization": f"Bearer {token}"})
    with gevent.Timeout(PATIENCE_S):
        reader.rest()
    assert reader.status == status


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signed(signer: Issuer, claims: dict[str, Any]) -> str:
    """Like ``jwt.encode``, which refuses some claims that an issuer may send all the same."""
    return _with_claims(signer, json.dumps(claims).encode())


def _with_claims(signer: Issuer, claims: bytes) -> str:
    named = {"kid": signer.kid} if signer.kid is not None else None
    return jwt.PyJWS().encode(claims, signer.private, signer.algorithm, headers=named)


def _by_hand(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """Signed by HMAC-SHA-256, whatever the header says."""
    import hashlib
    import hmac

    content = f"{_text(json.dumps(header).encode())}.{_text(json.dumps(claims).encode())}"
    return f"{content}.{_text(hmac.digest(secret, content.encode(), hashlib.sha256))}"
