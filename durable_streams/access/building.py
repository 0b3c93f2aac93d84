"""The gate that ``auth.mode`` asks for, made from the settings."""

from __future__ import annotations

from durable_streams.access.gate import AccessGate, GrantOf
from durable_streams.access.signed_urls import UrlSigner
from durable_streams.access.token_file import TokenFile
from durable_streams.config.access import AuthSettings
from durable_streams.extras import require_extra


def access_gates(auth: AuthSettings) -> tuple[AccessGate, ...]:
    """The gate of ``auth.mode``, if there is one; raises FileDamaged, OSError or MissingExtra."""
    return () if auth.mode == "none" else (AccessGate(_grants(auth), url_signer(auth)),)


def url_signer(auth: AuthSettings) -> UrlSigner | None:
    """What signs and checks URLs, where that is on; raises UrlKeysDamaged, or OSError."""
    return None if auth.url_keys_path is None else UrlSigner(auth.url_keys_path, auth.url_max_secs)


def _grants(auth: AuthSettings) -> GrantOf:
    """What a bearer token grants."""
    if auth.mode == "tokens":
        return TokenFile(auth.tokens_path).grant_of
    require_extra("jwt", "auth.mode = jwt")
    from durable_streams.access.json_web_tokens import ClaimRules, JsonWebTokens, JwkSetUrl, KeyFile

    rules = ClaimRules(
        auth.jwt_issuer,
        auth.jwt_audience,
        auth.jwt_leeway_secs,
        auth.jwt_scope_claim,
        auth.jwt_streams_claim,
    )
    if auth.jwt_keys_path is not None:
        return JsonWebTokens(KeyFile(auth.jwt_keys_path), rules).grant_of
    source = JwkSetUrl(auth.jwt_keys_url, cache_s=auth.jwt_keys_cache_secs, retry_s=auth.jwt_keys_retry_secs)
    return JsonWebTokens(source, rules).grant_of
