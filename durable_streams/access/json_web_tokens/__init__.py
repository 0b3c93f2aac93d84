"""JSON Web Tokens that somebody else has signed (RFC 7519), on PyJWT. Imported only where ``auth.mode = jwt``."""

from durable_streams.access.json_web_tokens.fetching import JwkSetUrl
from durable_streams.access.json_web_tokens.keys import KeyFile, KeysDamaged, KeySet
from durable_streams.access.json_web_tokens.verifying import ClaimRules, JsonWebTokens

__all__ = ["ClaimRules", "JsonWebTokens", "JwkSetUrl", "KeyFile", "KeySet", "KeysDamaged"]
