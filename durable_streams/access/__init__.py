"""Access control: who asks, and what they may do with which streams (section 12.1)."""

from durable_streams.access.gate import AccessGate
from durable_streams.access.grants import SCOPES, Grant
from durable_streams.access.signed_urls import UrlSigner
from durable_streams.access.token_file import TokenFile, TokenFileDamaged

__all__ = ["SCOPES", "AccessGate", "Grant", "TokenFile", "TokenFileDamaged", "UrlSigner"]
